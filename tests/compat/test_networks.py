"""User-defined networks with unmodified clients: containers find one another by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import docker
import pytest

from tests.daemon import Daemon, running
from tests.session import PATIENCE, eventually

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.compat,
    pytest.mark.slow,
    # docker-py leaves sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

Cli = Callable[..., str]


def _cli(daemon: Daemon, program: str) -> Cli:
    def run(*arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [daemon.programs[program], *arguments],
            env=daemon.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return (done.stderr if fails else done.stdout).strip()

    return run


@pytest.fixture(params=["sampan", "docker"])
def cli(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Cli]:
    yield _cli(daemon, request.param)
    daemon.remove_containers()
    daemon.request("POST", "/networks/prune")


@pytest.fixture
def network(daemon: Daemon) -> str:
    """Return the name of a new network."""
    assert daemon.request("POST", "/networks/create", {"Name": "backend"}).status == 201
    return "backend"


def test_containers_find_one_another_by_name_alias_and_short_id(cli: Cli, network: str) -> None:
    ran = cli("run", "-d", "--net", network, "--name", "web", "--network-alias", "www", "busybox",
              "sleep", "1000")  # fmt: skip
    address = cli("inspect", "-f", "{{.NetworkSettings.Networks.backend.IPAddress}}", "web")
    for name in ("web", "www", ran[:12], "web.backend"):
        found = cli("run", "--rm", "--net", network, "busybox", "ping", "-c", "1", name)
        assert address in found
    reverse = cli("run", "--rm", "--net", network, "busybox", "nslookup", address)
    assert "name = web.backend" in reverse
    assert "nameserver 127.0.0.11" in cli("exec", "web", "cat", "/etc/resolv.conf")
    cli("run", "--rm", "busybox", "ping", "-c", "1", "web", fails=True)


def test_a_renamed_container_and_one_that_joins_later_are_found(
    cli: Cli, network: str, daemon: Daemon
) -> None:
    cli("run", "-d", "--net", network, "--name", "client", "busybox", "sleep", "1000")
    cli("run", "-d", "--name", "old", "busybox", "sleep", "1000")
    cli("exec", "client", "nslookup", "old", fails=True)
    body = {"Container": "old", "EndpointConfig": {"Aliases": ["alias"]}}
    assert daemon.request("POST", f"/networks/{network}/connect", body).status == 200
    cli("rename", "old", "new")
    for name in ("new", "alias"):
        cli("exec", "client", "ping", "-c", "1", name)
    cli("exec", "client", "nslookup", "old.backend", fails=True)
    cli("exec", "new", "ping", "-c", "1", "client")  # its resolv.conf has changed
    cli("rm", "-f", "new")
    cli("exec", "client", "nslookup", "new", fails=True)


def test_a_link_on_a_network_of_a_user_is_a_private_name(cli: Cli, network: str) -> None:
    cli("run", "-d", "--net", network, "--name", "postgres", "busybox", "sleep", "1000")
    command = ("busybox", "ping", "-c", "1", "db")
    cli("run", "--rm", "--net", network, "--link", "postgres:db", *command)
    cli("run", "--rm", "--net", network, *command, fails=True)


def test_networks_are_made_shown_and_removed(cli: Cli) -> None:
    flags = "--subnet 10.77.0.0/16 --ip-range 10.77.5.0/24 --gateway 10.77.5.254 --attachable"
    flags += " --aux-address router=10.77.5.1 --label a=b -o com.docker.network.bridge.name=mine0"
    made = cli("network", "create", *flags.split(), "own")
    assert len(made) == 64
    shown = json.loads(cli("network", "inspect", "own"))[0]
    assert (shown["Attachable"], shown["Labels"], shown["Id"]) == (True, {"a": "b"}, made)
    assert shown["IPAM"]["Config"] == [
        {
            "Subnet": "10.77.0.0/16",
            "IPRange": "10.77.5.0/24",
            "Gateway": "10.77.5.254",
            "AuxiliaryAddresses": {"router": "10.77.5.1"},
        }
    ]
    address = ("-f", "{{.NetworkSettings.Networks.own.IPAddress}}")
    cli("run", "-d", "--net", "own", "--name", "first", "busybox", "sleep", "1000")
    assert (
        cli("inspect", *address, "first") == "10.77.5.0"
    )  # the first of the range, as with Docker
    fixed = "--ip 10.77.9.9 --mac-address 02:00:00:00:00:99 --link-local-ip 169.254.9.9".split()
    cli("run", "-d", "--net", "own", *fixed, "--name", "fixed", "busybox", "sleep", "1000")
    assert cli("inspect", *address, "fixed") == "10.77.9.9"
    seen = cli("exec", "fixed", "ip", "addr", "show", "dev", "eth0")
    assert "02:00:00:00:00:99" in seen
    assert "169.254.9.9/16" in seen
    assert "in use" in cli(
        "run", "--rm", "--net", "own", "--ip", "10.77.9.9", "busybox", "true", fails=True
    )
    filters = "-f label=a=b -f driver=bridge -f type=custom".split()
    assert cli("network", "ls", *filters, "--format", "{{.Name}}") == "own"
    assert "has active endpoints" in cli("network", "rm", "own", fails=True)
    cli("rm", "-f", "first", "fixed")
    assert cli("network", "rm", "own") == "own"
    assert "network own not found" in cli("network", "rm", "own", fails=True)


def test_unused_networks_are_pruned_by_label(cli: Cli) -> None:
    for name, label in (("one", "a=1"), ("two", "a=2")):
        cli("network", "create", "--label", label, name)
    assert cli("network", "prune", "-f", "--filter", "label=a=1") == "Deleted Networks:\none"
    assert "two" in cli("network", "prune", "-f")


def test_containers_join_and_leave_with_addresses_names_and_routes(cli: Cli) -> None:
    cli("network", "create", "--subnet", "10.78.0.0/24", "alpha")
    cli("network", "create", "--internal", "inside")
    cli("run", "-d", "--net", "inside", "--name", "box", "busybox", "sleep", "1000")
    assert "default" not in cli("exec", "box", "ip", "route")
    cli("network", "connect", "--ip", "10.78.0.77", "--alias", "crate", "alpha", "box")
    assert "default via 10.78.0.1 dev eth1" in cli("exec", "box", "ip", "route")
    assert "10.78.0.77" in cli("exec", "box", "nslookup", "crate")
    assert "already exists in network alpha" in cli(
        "network", "connect", "alpha", "box", fails=True
    )
    cli("restart", "-t", "0", "box")
    assert "10.78.0.77" in cli("exec", "box", "ip", "addr")
    cli("network", "disconnect", "alpha", "box")
    assert "10.78" not in cli("exec", "box", "ip", "addr")
    refused = cli("network", "disconnect", "alpha", "box", fails=True)
    assert "is not connected to" in refused
    cli("rm", "-f", "box")
    # At rest it is noted for the next start.
    cli("create", "--net", "inside", "--name", "box", "busybox", "sleep", "1000")
    cli("network", "connect", "alpha", "box")
    cli("start", "box")
    assert "10.78.0." in cli("exec", "box", "ip", "addr")


def test_a_network_with_ipv6_gives_addresses_names_and_published_ports(
    cli: Cli, daemon: Daemon
) -> None:
    cli(
        "network", "create", "--ipv6", "--subnet", "fd00:77::/64", "--subnet", "10.77.0.0/24", "six"
    )
    shown = json.loads(cli("network", "inspect", "six"))[0]
    assert shown["EnableIPv6"] is True
    assert {config["Gateway"] for config in shown["IPAM"]["Config"]} == {"10.77.0.1", "fd00:77::1"}
    serve = ("busybox", "sh", "-c", "echo page > /var/www/index.html; exec httpd -f -h /var/www")
    fixed = ("--net", "six", "--ip6", "fd00:77::99")
    cli("run", "-d", *fixed, "--name", "web", "-p", "8075:80", *serve)
    field = "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}"
    assert cli("inspect", "-f", field, "web") == "fd00:77::99"
    cli("run", "--rm", "--net", "six", "busybox", "ping", "-6", "-c", "1", "web")
    assert "fd00:77::99" in cli("run", "--rm", "--net", "six", "busybox", "nslookup", "web")

    def fetch() -> bytes:
        return subprocess.run(
            [*daemon.enter, "curl", "-s", "--noproxy", "*", "http://[fd00:77::1]:8075/"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        ).stdout

    eventually(lambda: fetch() == b"page\n")
    assert "already in use" in cli("run", "--rm", "--net", "six", "--ip6", "fd00:77::99", "busybox",
                                   "true", fails=True)  # fmt: skip
    cli("network", "create", "--ipv6", "own")  # a range of the engine's own
    routes = cli("run", "--rm", "--net", "own", "busybox", "ip", "-6", "route")
    assert "default via fd" in routes


@pytest.mark.parametrize("run", ["run -d", "create"])
def test_a_container_that_left_its_only_network_may_join_another(cli: Cli, run: str) -> None:
    cli("network", "create", "--subnet", "10.81.0.0/24", "alpha")
    cli(*run.split(), "--net", "alpha", "--name", "box", "busybox", "sleep", "1000")
    cli("network", "disconnect", "alpha", "box")
    assert "is not connected to" in cli("network", "disconnect", "alpha", "box", fails=True)
    cli("network", "connect", "--ip", "10.81.0.9", "--alias", "crate", "alpha", "box")
    cli("restart", "-t", "0", "box")
    assert "inet 10.81.0.9/24" in cli("exec", "box", "ip", "addr")
    assert "10.81.0.9" in cli("exec", "box", "nslookup", "crate")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("network create --subnet 10.1.0.1/16 x", "invalid subnet 10.1.0.1/16: it should be 10.1"),
        ("network create --subnet nope x", "invalid subnet nope: invalid CIDR block notation"),
        ("network create --subnet 10.79.5.0/24 x", "Pool overlaps with other one"),
        ("network create taken", "network with name taken already exists"),
        ("network create -d nope x", "could not find plugin nope"),
        ("network create -d host x", 'only one instance of "host" network is allowed'),
        ("network connect taken nobody", "No such container: nobody"),
        ("network connect nowhere nobody", "network nowhere not found"),
        ("network rm bridge", "bridge is a pre-defined network and cannot be removed"),
        (
            "run --rm --net taken --ip 10.1.1.1 busybox true",
            "no configured subnet or ip-range contain",
        ),
        ("run --rm --ip 172.17.0.9 busybox true", "is supported on user-defined networks only"),
        ("run --rm --net nowhere busybox true", "network nowhere not found"),
    ],
)
def test_bad_networks_are_refused_in_docker_s_words(
    cli: Cli, arguments: str, sentence: str
) -> None:
    cli("network", "create", "--subnet", "10.79.0.0/16", "taken")
    assert sentence in cli(*arguments.split(), fails=True)
    assert set(cli("network", "ls", "--format", "{{.Name}}").split()) == {
        "bridge",
        "host",
        "none",
        "taken",
    }


def test_hosts_follow_a_linked_container_that_starts_again(daemon: Daemon) -> None:
    cli = _cli(daemon, "docker")
    cli("run", "-d", "--name", "db", "busybox", "sleep", "1000")
    cli("run", "-d", "--name", "app", "--link", "db:store", "busybox", "sleep", "1000")
    cli("exec", "app", "sh", "-c", "echo 192.0.2.7 mine >> /etc/hosts")
    address = ("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db")
    seen = {cli(*address)}
    for restart in (lambda: None, lambda: _restart_daemon(daemon)):
        cli("stop", "-t", "0", "db")
        cli("run", "-d", "busybox", "sleep", "1000")  # takes the next address
        restart()
        cli("start", "db")
        seen.add(cli(*address))
        hosts = cli("exec", "app", "cat", "/etc/hosts")
        lines = [line for line in hosts.splitlines() if "store" in line]
        assert [line.split()[:2] for line in lines] == [[cli(*address), "store"]]
        assert "192.0.2.7 mine" in hosts
        cli("exec", "app", "ping", "-c", "1", "store")
    assert len(seen) == 3
    daemon.remove_containers()


def _restart_daemon(daemon: Daemon) -> None:
    daemon.stop()
    daemon.start()


def test_names_are_found_while_no_daemon_runs_and_after_it_was_killed(daemon: Daemon) -> None:
    cli = _cli(daemon, "docker")
    daemon.request("POST", "/networks/create", {"Name": "lasting"})
    cli("run", "-d", "--net", "lasting", "--name", "web", "busybox", "sleep", "1000")
    cli("run", "-d", "--net", "lasting", "--name", "client", "busybox", "sh", "-c",
        "while :; do nslookup web >/dev/null && echo yes || echo no; done")  # fmt: skip
    for processes in (_all_but_resolver, Daemon.processes):
        eventually(lambda processes=processes: _killed(daemon, processes))  # type: ignore[misc]
        daemon.start()
        eventually(lambda: _answers(cli))  # the resolver may have been killed, too
        cli("run", "--rm", "--net", "lasting", "busybox", "ping", "-c", "1", "web")
    cli("rm", "-f", "web", "client")
    cli("network", "rm", "lasting")


def _answers(cli: Cli) -> bool:
    with suppress(AssertionError):
        cli("exec", "client", "ping", "-c", "1", "web")
        return True
    return False


def _killed(daemon: Daemon, processes: Callable[[Daemon], list[int]]) -> bool:
    """Kill processes of a daemon; tell whether none is left."""
    for pid in (alive := processes(daemon)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if daemon.process:
        daemon.process.poll()
    return not alive


def _all_but_resolver(daemon: Daemon) -> list[int]:
    found = []
    for pid in daemon.processes():
        with suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"sampan.helpers.resolver" not in file.read():
                    found.append(pid)
    return found


def test_docker_py_makes_connects_and_removes_networks(daemon: Daemon) -> None:
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="auto", timeout=60)
    made = client.networks.create("py", labels={"a": "b"})
    server = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="server")
    made.connect(server, aliases=["db"])
    found = client.containers.run("busybox", "ping -c 1 db", network="py", remove=True)
    assert b"1 packets received" in found
    made.reload()
    assert [container.name for container in made.containers] == ["server"]
    made.disconnect(server)
    made.reload()
    assert made.containers == []
    server.remove(force=True)
    made.remove()
    assert client.networks.list(names=["py"]) == []
    client.close()


def test_the_memory_of_the_resolver_is_small(daemon: Daemon, cli: Cli, network: str) -> None:
    cli("run", "-d", "--net", network, "--name", "web", "busybox", "sleep", "1000")

    def resolvers() -> set[int]:
        return set(daemon.processes()) - set(_all_but_resolver(daemon))

    eventually(lambda: len(resolvers()) == 1)  # that of an earlier test ends when it is not needed
    with open(f"/proc/{resolvers().pop()}/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
    assert int(fields["Pss"].split()[0]) < 20_000  # kB
    eventually(lambda: json.loads(daemon.request("GET", "/containers/json").body))


def test_ports_of_a_running_container_are_published_and_taken_back(daemon: Daemon) -> None:
    cli = _cli(daemon, "sampan")
    cli("run", "-d", "--name", "web", "-p", "8070:80", "busybox", "sh", "-c",
        "echo page > /var/www/index.html; exec httpd -f -h /var/www")  # fmt: skip

    def fetch(port: int) -> str:
        return subprocess.run(
            [*daemon.enter, "curl", "-s", "--noproxy", "*", f"http://127.0.0.1:{port}/"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        ).stdout

    eventually(lambda: fetch(8070) == "page\n")
    cli("update", "--publish-add", "8071:80", "web")
    assert fetch(8071) == "page\n"
    taken = cli("update", "--publish-add", "8070:81", "web", fails=True)
    assert "Bind for 0.0.0.0:8070 failed: port is already allocated" in taken
    cli("update", "--publish-rm", "8070:80", "web")
    assert fetch(8070) == ""
    assert cli("port", "web") == "80/tcp -> 0.0.0.0:8071\n80/tcp -> [::]:8071"
    cli("restart", "-t", "0", "web")
    eventually(lambda: fetch(8071) == "page\n")
    assert fetch(8070) == ""
    cli("stop", "-t", "0", "web")
    cli("update", "--publish-rm", "80", "web")
    cli("start", "web")
    assert cli("port", "web") == ""
    daemon.remove_containers()


def test_a_daemon_with_iptables_ipv6_and_a_fixed_range() -> None:
    options = ("--firewall-backend=iptables", "--ipv6", "--bip=10.88.0.1/16")
    with running(*options, "--fixed-cidr=10.88.7.0/24", "--fixed-cidr-v6=fd00:88::/64") as daemon:
        daemon.import_image()
        cli = _cli(daemon, "docker")
        serve = "echo page > /var/www/index.html; exec httpd -f -h /var/www"
        cli("run", "-d", "--name", "web", "-p", "8070:80", "busybox", "sh", "-c", serve)
        seen = cli("exec", "web", "ip", "addr", "show", "dev", "eth0")
        assert "10.88.7.0/16" in seen
        assert "fd00:88::2/64" in seen

        def output(*command: str) -> str:
            return subprocess.run(
                [*daemon.enter, *command],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            ).stdout

        for address in ("127.0.0.1", "[::1]", "10.88.0.1", "[fd00:88::1]"):
            url = f"http://{address}:8070/"
            eventually(lambda url=url: output("curl", "-s", "--noproxy", "*", url) == "page\n")  # type: ignore[misc]
        assert "dpt:8070 to:10.88.7.0:80" in output("iptables", "-t", "nat", "-nL", "DOCKER")
        assert "tcp dpt:8070 to:[fd00:88::2]:80" in output(
            "ip6tables", "-t", "nat", "-nL", "DOCKER"
        )
        backend = daemon.request("GET", "/info").json["FirewallBackend"]
        assert backend["Driver"] == "iptables"
        cli("rm", "-f", "web")
        assert "8070" not in output("iptables-save") + output("ip6tables-save")


def test_without_traffic_between_containers_links_open_the_exposed_ports() -> None:
    with running("--icc=false") as daemon:
        daemon.import_image()
        cli = _cli(daemon, "docker")
        serve = (
            "echo page > /var/www/index.html; httpd -h /var/www; exec httpd -f -p 81 -h /var/www"
        )
        cli("run", "-d", "--name", "web", "--expose", "80", "busybox", "sh", "-c", serve)
        cli("run", "-d", "--name", "app", "--link", "web", "busybox", "sleep", "1000")
        cli("run", "-d", "--name", "stranger", "busybox", "sleep", "1000")
        fetch = "wget -qO- http://web/ || true"  # it may not serve yet
        eventually(lambda: cli("exec", "app", "sh", "-c", fetch) == "page")
        cli("exec", "app", "timeout", "2", "wget", "-qO-", "http://web:81/", fails=True)
        address = cli("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
        cli("exec", "stranger", "timeout", "2", "wget", "-qO-", f"http://{address}/", fails=True)
        cli("stop", "-t", "0", "web")
        cli("run", "-d", "busybox", "sleep", "1000")  # takes an address
        cli("start", "web")
        eventually(lambda: cli("exec", "app", "sh", "-c", fetch) == "page")
        shown = cli("ps", "--no-trunc", "--format", "{{.Names}}").split()
        assert {"web", "app/web"} in [set(names.split(",")) for names in shown]
