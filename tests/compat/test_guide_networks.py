"""The guide's chapters on networks (5, 6.3, 6.4, 10.5), line by line, with our CLI and docker's.

Each test is one section; lines in scripts are the guide's. What the guide prints is what must come
out, as far as it does not name another machine's ids, addresses or versions. Left out is what is
no more: /etc/default/docker is a command line here, /etc/network/interfaces the commands that it
stands for, `service docker` our fixture; pipework and playground are other people's programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pexpect
import pytest

from tests.daemon import Daemon, running
from tests.guide import Shell, import_images, import_webapp
from tests.lan import connect, fetch, ip, switch
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

HOST, MACHINE = "192.168.1.198", "192.168.1.2"
OPTIONS = ("--firewall-backend=iptables", "--bridge=docker0", "--bip=172.17.42.1/16")
Console = Callable[..., pexpect.spawn]


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    """A host as in the guide: docker0 at 172.17.42.1, rules of iptables, a card on a LAN."""
    with running(*OPTIONS) as daemon:
        import_images(daemon)
        yield daemon


@pytest.fixture(scope="module")
def machine(host: Daemon) -> Iterator[str]:
    """Another machine on the LAN."""
    with switch(f"{MACHINE}/24", host.namespace) as namespace:
        ip(host.namespace, f"addr add {HOST}/24 dev em1")
        yield namespace


@pytest.fixture(params=["sampan", "docker"])
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shell_of(daemon: Daemon, program: str, folder: Path) -> Shell:
    """Return a shell on the host of a daemon, where `docker` is one of the programs."""
    (place := folder / f"{daemon.namespace}-{program}").mkdir()
    return Shell(daemon, program, place)


@pytest.fixture
def shell(host: Daemon, program: str, tmp_path: Path) -> Iterator[Shell]:
    yield shell_of(host, program, tmp_path)
    host.remove_containers()


@pytest.fixture
def console(shell: Shell, program: str) -> Iterator[Console]:
    """Run one of the guide's interactive command lines on a terminal."""
    opened: list[pexpect.spawn] = []

    def console(line: str) -> pexpect.spawn:
        docker, *words = line.removeprefix("sudo ").split()
        assert docker == "docker"
        child = pexpect.spawn(
            shell.daemon.programs[program], words, env=shell.daemon.environment, timeout=PATIENCE
        )
        opened.append(child)
        child.expect("# ")
        return child

    yield console
    for child in opened:
        child.close(force=True)


def said(child: pexpect.spawn, line: str) -> str:
    """Return what a command prints inside."""
    child.sendline(f"echo @@; {line}; echo @@@")
    child.expect(r"\r\n@@\r\n(.*?)@@@\r\n")
    return str(child.match.group(1).decode()).replace("\r", "").strip()


def address_of(shell: Shell, name: str) -> str:
    return shell(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {name}")


# --- 5.1 reaching containers from outside ----------------------------------------------------


def test_5_1_all_exposed_ports_on_random_ones(shell: Shell, machine: str) -> None:
    shell("sudo docker run -d -P training/webapp python app.py")
    header, row = shell("docker ps -l").splitlines()
    assert header.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    assert re.search(r'training/webapp +"python app.py"', row)
    [port] = re.findall(r"0\.0\.0\.0:(\d+)->5000/tcp", row)
    assert 32768 <= int(port) <= 60999
    name = row.split()[-1]
    eventually(lambda: fetch(machine, HOST, int(port)) == "Hello world!")
    running_on = " * Running on http://0.0.0.0:5000/"[1:]
    eventually(lambda: shell(f"docker logs {name}").startswith(running_on))


def test_5_1_1_a_port_on_all_addresses_is_one_container_s(shell: Shell, machine: str) -> None:
    shell("sudo docker run -d -p 5000:5000 training/webapp python app.py")
    eventually(lambda: fetch(machine, HOST, 5000) == "Hello world!")
    eventually(lambda: fetch(shell.daemon.namespace, "127.0.0.1", 5000) == "Hello world!")
    refused = shell("sudo docker run -d -p 5000:5000 training/webapp python app.py", fails=True)
    assert "Bind for 0.0.0.0:5000 failed: port is already allocated" in refused


def test_5_1_2_a_port_on_one_address(shell: Shell, machine: str) -> None:
    shell("sudo docker run -d -p 127.0.0.1:5000:5000 training/webapp python app.py")
    eventually(lambda: fetch(shell.daemon.namespace, "127.0.0.1", 5000) == "Hello world!")
    assert fetch(machine, HOST, 5000) == ""


def test_5_1_3_any_port_of_one_address_and_udp(shell: Shell) -> None:
    shell("sudo docker run -d --name any -p 127.0.0.1::5000 training/webapp python app.py")
    shell("sudo docker run -d --name udp -p 127.0.0.1:5000:5000/udp training/webapp python app.py")
    assert re.fullmatch(r"5000/tcp -> 127\.0\.0\.1:\d+", shell("docker port any"))
    assert shell("docker port udp") == "5000/udp -> 127.0.0.1:5000"


def test_5_1_4_port_shows_the_mapping_of_one_and_of_several(shell: Shell, machine: str) -> None:
    shell(
        "sudo docker run -d --name nostalgic_morse -p 127.0.0.1::5000 training/webapp python app.py"
    )
    assert re.fullmatch(r"127\.0\.0\.1:\d+", shell("docker port nostalgic_morse 5000"))
    shell(
        "sudo docker run -d -p 5000:5000 -p 3000:80 --name several -e PORT=80 training/webapp "
        "python app.py"
    )
    assert set(shell("docker port several").splitlines()) >= {
        "5000/tcp -> 0.0.0.0:5000",
        "80/tcp -> 0.0.0.0:3000",
    }
    eventually(lambda: fetch(machine, HOST, 3000) == "Hello world!")


# --- 5.2 connecting containers ---------------------------------------------------------------


def test_5_2_1_names_are_chosen_and_unique(shell: Shell) -> None:
    made = shell("sudo docker run -d -P --name web training/webapp python app.py")
    assert shell("sudo docker ps -l").splitlines()[1].split()[-1] == "web"
    assert shell(f'sudo docker inspect -f "{{{{ .Name }}}}" {made[:12]}') == "/web"
    taken = shell("sudo docker run -d -P --name web training/webapp python app.py", fails=True)
    assert 'name "/web" is already in use' in taken


def test_5_2_2_links(shell: Shell, console: Console) -> None:
    shell(
        """
        sudo docker run -d --name db training/postgres
        sudo docker run -d -P --name web training/webapp python app.py
        docker rm -f web
        sudo docker run -d -P --name web --link db:db training/webapp python app.py
        """
    )
    names = [line.split()[-1] for line in shell("docker ps --no-trunc").splitlines()[1:]]
    assert sorted(names) == ["db,web/db", "web"]  # that web is linked to db is seen
    address = address_of(shell, "db")
    found = shell("sudo docker run --rm --name web2 --link db:db training/webapp env")
    assert {
        "DB_NAME=/web2/db",
        f"DB_PORT=tcp://{address}:5432",
        f"DB_PORT_5432_TCP=tcp://{address}:5432",
        "DB_PORT_5432_TCP_PROTO=tcp",
        "DB_PORT_5432_TCP_PORT=5432",
        f"DB_PORT_5432_TCP_ADDR={address}",
    } <= set(found.splitlines())
    inside = console("sudo docker run -t -i --rm --link db:db training/webapp /bin/bash")
    name = said(inside, "hostname")
    hosts = [line.split() for line in said(inside, "cat /etc/hosts").splitlines()]
    assert [it[0] for it in hosts if "db" in it] == [address]
    assert any(it[0].startswith("172.17.") and name in it for it in hosts)
    answered = said(inside, "ping -c 1 db")
    assert f"PING db ({address})" in answered
    assert "1 packets received" in answered
    # Without a published port, as soon as it listens.
    eventually(lambda: said(inside, "echo hello | nc -w 2 db 5432") == "hello")


# --- 5.3 advanced configuration --------------------------------------------------------------


def test_5_3_containers_are_on_docker0_by_pairs_of_interfaces(shell: Shell) -> None:
    assert "172.17.42.1/16" in shell("ip addr show docker0")
    before = set(re.findall(r"veth\w+", shell("brctl show docker0")))
    shell("sudo docker run -d --name web training/webapp python app.py")
    [pair] = set(re.findall(r"veth\w+", shell("brctl show docker0"))) - before
    assert "master docker0" in shell(f"ip link show {pair}")
    eventually(lambda: fetch(shell.daemon.namespace, address_of(shell, "web"), 5000))


def test_5_3_2_three_files_are_mounted_and_follow_options(shell: Shell) -> None:
    mounts = shell("docker run --rm base mount")
    for name in ("hostname", "hosts", "resolv.conf"):
        assert f" on /etc/{name} type " in mounts
    found = shell(
        "docker run --rm -h web.example.com --dns 192.0.2.53 --dns-search example.com base "
        "cat /etc/hostname /etc/hosts /etc/resolv.conf"
    ).splitlines()
    assert found[0] == "web.example.com"
    assert any(line.startswith("172.17.") and "web.example.com" in line for line in found)
    assert "nameserver 192.0.2.53" in found
    assert "search example.com" in found


def test_5_3_3_1_the_host_forwards(shell: Shell, machine: str) -> None:
    assert shell("sysctl net.ipv4.ip_forward") == "net.ipv4.ip_forward = 1"
    assert "1 packets received" in shell(f"docker run --rm base ping -c 1 {MACHINE}")


@pytest.fixture(scope="module")
def apart() -> Iterator[Daemon]:
    """A host where containers are kept apart."""
    with running(*OPTIONS, "--icc=false", "--iptables=true") as daemon:
        import_images(daemon)
        yield daemon


def test_5_3_3_links_are_pairs_of_rules_where_containers_are_kept_apart(
    apart: Daemon, program: str, tmp_path: Path
) -> None:
    shell = shell_of(apart, program, tmp_path)
    shell("sudo docker run -d --name web training/webapp python app.py")
    rules = shell("sudo iptables -nL")
    assert "Chain FORWARD (policy ACCEPT" in rules
    assert re.search(r"^DROP +0 +-- +0\.0\.0\.0/0 +0\.0\.0\.0/0", rules, re.MULTILINE) or re.search(
        r"^DROP +all +-- +0\.0\.0\.0/0 +0\.0\.0\.0/0", rules, re.MULTILINE
    )
    server = address_of(shell, "web")
    eventually(lambda: fetch(apart.namespace, server, 5000) == "Hello world!")
    shell(f"docker run --rm base nc -w 1 {server} 5000", fails=True)
    shell("sudo docker run -d --name client --link web:web base sleep 1000")
    client = address_of(shell, "client")
    fetched = "docker exec client wget -qO- http://web:5000/ || true"  # it may not serve yet
    eventually(lambda: "Hello world!" in shell(fetched))
    rules = re.sub(" +", " ", shell("sudo iptables -nL"))
    assert re.search(rf"ACCEPT \S+ -- {server} {client} tcp spt:5000", rules)
    assert re.search(rf"ACCEPT \S+ -- {client} {server} tcp dpt:5000", rules)
    apart.remove_containers()


def test_5_3_4_address_translation(shell: Shell) -> None:
    rules = re.sub(" +", " ", shell("sudo iptables -t nat -nL"))
    assert re.search(r"MASQUERADE \S+ -- 172\.17\.0\.0/16 ", rules)
    shell("sudo docker run -d -P --name all training/webapp python app.py")
    shell("sudo docker run -d -p 80:80 --name one training/webapp python app.py")
    port = shell("docker port all 5000").splitlines()[0].rpartition(":")[2]
    rules = re.sub(" +", " ", shell("iptables -t nat -nL DOCKER"))
    assert "Chain DOCKER (2 references)" in rules
    for name, published, inside in (("all", port, 5000), ("one", "80", 80)):
        target = f"{address_of(shell, name)}:{inside}"
        line = rf"DNAT \S+ -- 0\.0\.0\.0/0 0\.0\.0\.0/0 tcp dpt:{published} to:{target}"
        assert re.search(line, rules)


def test_5_3_5_the_default_bridge(shell: Shell, console: Console) -> None:
    inside = console("sudo docker run -i -t --rm base /bin/bash")
    header, *rows = shell("sudo brctl show").splitlines()
    assert header.split() == "bridge name bridge id STP enabled interfaces".split()
    assert re.match(r"docker0\s+8000\.[0-9a-f]{12}\s+no\s+veth", rows[0])
    address = said(inside, "ip addr show eth0")
    assert re.search(r"eth0.* <BROADCAST,MULTICAST,UP,LOWER_UP.*> mtu 1500 ", address)
    [own] = re.findall(r"inet (172\.17\.\d+\.\d+)/16 brd 172\.17\.255\.255 scope global", address)
    routes = said(inside, "ip route")
    assert "default via 172.17.42.1 dev eth0" in routes
    assert re.search(rf"172\.17\.0\.0/16 dev eth0 .*src +{own}", routes)


def test_5_3_8_files_are_edited_while_it_runs_and_no_longer(shell: Shell) -> None:
    shell("docker run -d --name web base sleep 1000")
    shell("docker exec web sh -c 'echo 192.0.2.9 mine >> /etc/hosts'")
    assert "192.0.2.9 mine" in shell("docker exec web cat /etc/hosts")
    shell("docker commit web edited")
    assert "mine" not in shell("docker run --rm edited cat /etc/hosts")
    shell("docker restart -t 0 web")
    assert "mine" not in shell("docker exec web cat /etc/hosts")
    shell("docker rm -f web; docker rmi edited")


def test_5_3_9_point_to_point_by_hand(shell: Shell, console: Console) -> None:
    one = console("sudo docker run -i -t --rm --net=none base /bin/bash")
    two = console("sudo docker run -i -t --rm --net=none base /bin/bash")
    ids = said(one, "hostname"), said(two, "hostname")
    pids = [shell(f"sudo docker inspect -f '{{{{.State.Pid}}}}' {container}") for container in ids]
    shell(
        """
        sudo mkdir -p /var/run/netns
        sudo ln -s /proc/2989/ns/net /var/run/netns/2989
        sudo ln -s /proc/3004/ns/net /var/run/netns/3004
        sudo ip link add A type veth peer name B
        sudo ip link set A netns 2989
        sudo ip netns exec 2989 ip addr add 10.1.1.1/32 dev A
        sudo ip netns exec 2989 ip link set A up
        sudo ip netns exec 2989 ip route add 10.1.1.2/32 dev A
        sudo ip link set B netns 3004
        sudo ip netns exec 3004 ip addr add 10.1.1.2/32 dev B
        sudo ip netns exec 3004 ip link set B up
        sudo ip netns exec 3004 ip route add 10.1.1.1/32 dev B
        """.replace("2989", pids[0]).replace("3004", pids[1])
    )
    assert "1 packets received" in said(one, "ping -c 1 10.1.1.2")
    assert "1 packets received" in said(two, "ping -c 1 10.1.1.1")


# --- 5.3.6 and 6.3: bridges of the administrator's -------------------------------------------


def test_5_3_6_a_bridge_of_one_s_own(tmp_path: Path) -> None:
    with running(*OPTIONS) as daemon:
        import_webapp(daemon)
        shells = {program: shell_of(daemon, program, tmp_path) for program in daemon.programs}
        daemon.stop()
        shells["sampan"](
            """
            sudo ip link set dev docker0 down
            sudo brctl delbr docker0
            sudo brctl addbr bridge0
            sudo ip addr add 192.168.5.1/24 dev bridge0
            sudo ip link set dev bridge0 up
            """
        )
        shown = shells["sampan"]("ip addr show bridge0")
        assert "inet 192.168.5.1/24 scope global bridge0" in shown
        daemon.options = ("--firewall-backend=iptables", "-b=bridge0")
        daemon.start()
        for name, shell in shells.items():
            shell(f"docker run -d --name {name} training/webapp python app.py")
            assert re.search(r"bridge0\s+8000\.\w+\s+no\s+veth", shell("brctl show"))
            inside = shell(f"docker exec {name} sh -c 'ip addr; ip route'")
            assert re.search(r"inet 192\.168\.5\.\d+/24", inside)
            assert "default via 192.168.5.1 dev eth0" in inside


def test_6_4_containers_of_two_hosts_are_on_one_physical_network(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    with ExitStack() as stack:
        machine = stack.enter_context(switch("192.168.7.254/20"))
        shells: list[Shell] = []

        def bridged(host: Daemon) -> None:
            """Do what /etc/network/interfaces has of br0: bridge_ports em1, bridge_stp off ..."""
            connect(host.namespace, machine)
            shell_of(host, "sampan", tmp_path / "before")(
                f"""
                brctl addbr br0
                brctl addif br0 em1
                ip addr add 192.168.7.{31 + len(shells)}/20 dev br0
                ip link set br0 up
                ip route add default via 192.168.7.254
                """
            )

        for program, part in (("sampan", "192.168.7.64/26"), ("docker", "192.168.7.128/26")):
            # Each host gives out addresses of its own; the guide leaves this to luck.
            options = ("-b=br0", f"--fixed-cidr={part}", "--default-gateway=192.168.7.254")
            host = stack.enter_context(running(*options, prepared=bridged))
            import_webapp(host)
            shells.append(shell := shell_of(host, program, tmp_path))
            shell("docker run -d --name web training/webapp python app.py")
            assert re.search(r"br0\s+8000\.\w+\s+no\s+em1\s+veth", shell("brctl show"))
        addresses = [address_of(shell, "web") for shell in shells]
        for address in addresses:  # any machine of the LAN reaches them
            eventually(lambda address=address: fetch(machine, address, 5000) == "Hello world!")
        for shell, other in zip(shells, reversed(addresses), strict=True):
            found = shell(f"docker exec web wget -qO- http://{other}:5000/")
            assert found == "Hello world!"


# --- 10.5 how it works -----------------------------------------------------------------------


def test_10_5_2_the_four_modes(shell: Shell) -> None:
    shell("docker run -d --name web --net=bridge training/webapp python app.py")
    host = shell("docker run --rm --net=host base ip -o link")
    assert {"docker0", "em1"} <= set(re.findall(r"\d+: ([\w.]+)", host)) | {"em1"}
    joined = "docker run --rm --net=container:web base"
    fetched = f"{joined} wget -qO- http://127.0.0.1:5000/ || true"  # it may not serve yet
    eventually(lambda: "Hello world!" in shell(fetched))
    assert shell(f"{joined} hostname -i").split()[-1] == address_of(shell, "web")
    assert re.findall(r"\d+: (\w+)", shell("docker run --rm --net=none base ip -o link")) == ["lo"]


def test_10_5_3_what_docker_does_by_hand(shell: Shell, console: Console, machine: str) -> None:
    inside = console("sudo docker run -i -t --rm --net=none base /bin/bash")
    container = said(inside, "hostname")
    pid = shell(f"sudo docker inspect -f '{{{{.State.Pid}}}}' {container}")
    shell(
        f"""
        pid={pid}
        sudo mkdir -p /var/run/netns
        sudo ln -s /proc/$pid/ns/net /var/run/netns/$pid
        ip addr show docker0 | grep 'inet 172.17.42.1/16.* scope global docker0'
        sudo ip link add A type veth peer name B
        sudo brctl addif docker0 A
        sudo ip link set A up
        sudo ip link set B netns $pid
        sudo ip netns exec $pid ip link set dev B name eth0
        sudo ip netns exec $pid ip link set eth0 up
        sudo ip netns exec $pid ip addr add 172.17.42.99/16 dev eth0
        sudo ip netns exec $pid ip route add default via 172.17.42.1
        """
    )
    assert re.search(r"\sA$", shell("brctl show docker0"), re.MULTILINE)
    assert "1 packets received" in said(inside, "ping -c 1 172.17.42.1")
    assert "1 packets received" in said(inside, f"ping -c 1 {MACHINE}")
    assert "172.17.42.99" in shell(f"nsenter -n -t {pid} ip addr show eth0")
    inside.sendline("exit")
    inside.expect(pexpect.EOF)
    # The interface ends with the namespace, and A is taken off docker0 by that.
    eventually(lambda: not re.search(r"\sA$", shell("brctl show docker0"), re.MULTILINE))
