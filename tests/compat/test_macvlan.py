"""Macvlan networks with unmodified clients: containers are machines of the LAN."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.daemon import Daemon, running
from tests.lan import fetch, ip, switch
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

MACHINE = "192.168.7.254"  # the other machine of the LAN
NETWORK = (
    "network create -d macvlan --subnet 192.168.7.0/24 --gateway 192.168.7.254 "
    "--ip-range 192.168.7.8/29 --aux-address printer=192.168.7.9 -o parent=em1 lan"
)
SERVE = ("sh", "-c", "echo served > /index.html; httpd -f -p 80 -h /")
Cli = Callable[..., str]


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    with running() as daemon:
        daemon.import_image()
        yield daemon


@pytest.fixture
def machine(host: Daemon) -> Iterator[str]:
    """The namespace of another machine on the wire of the host's interface em1."""
    before = ip(host.namespace, "-o link")
    with switch(f"{MACHINE}/24", host.namespace) as namespace:
        yield namespace
        host.remove_containers()
        host.request("POST", "/networks/prune")
        ip(host.namespace, "link del em1")
    kept = [line.split(":")[1] for line in ip(host.namespace, "-o link").splitlines()]
    present = [line.split(":")[1] for line in before.splitlines()]
    assert [it for it in kept if "veth" not in it] == [it for it in present if "veth" not in it]


@pytest.fixture(params=["sampan", "docker"])
def cli(host: Daemon, request: pytest.FixtureRequest) -> Cli:
    def run(*arguments: str, fails: bool = False) -> str:
        words = arguments[0].split() if len(arguments) == 1 else arguments
        done = subprocess.run(
            [host.programs[request.param], *words],
            env=host.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return (done.stderr if fails else done.stdout).strip()

    return run


def test_containers_are_machines_of_the_lan(cli: Cli, machine: str) -> None:
    made = cli(NETWORK)
    mac = ("--mac-address", "02:00:5e:10:00:07")
    cli("run", "-d", "--name", "web", "--net", "lan", *mac, "-p", "8080:80", "busybox", *SERVE)
    eventually(lambda: fetch(machine, "192.168.7.8") == "served")
    assert "lladdr 02:00:5e:10:00:07" in ip(machine, "neigh show 192.168.7.8")
    # The next address is the printer's. Names are found, and the gateway is the LAN's.
    client = ("run", "--rm", "--net", "lan", "busybox")
    assert cli(*client, "wget", "-qO-", "http://web/") == "served"
    shown = cli(*client, "sh", "-c", "ip -4 -o addr show eth0; ip route")
    assert re.search(r"inet 192\.168\.7\.1[1-5]/24", shown)  # what is left of the range
    assert f"default via {MACHINE} dev eth0" in shown
    assert "1 packets received" in cli(*client, "ping", "-c", "1", MACHINE)
    fixed = ("run", "--rm", "--net", "lan", "--ip", "192.168.7.77", "busybox")
    assert "192.168.7.77/24" in cli(*fixed, "ip", "addr")

    network = json.loads(cli("network inspect lan"))[0]
    assert (network["Driver"], network["Options"]) == ("macvlan", {"parent": "em1"})
    assert network["IPAM"]["Config"] == [
        {
            "Subnet": "192.168.7.0/24",
            "IPRange": "192.168.7.8/29",
            "Gateway": MACHINE,
            "AuxiliaryAddresses": {"printer": "192.168.7.9"},
        }
    ]
    container = json.loads(cli("inspect web"))[0]["NetworkSettings"]
    assert container["Ports"] == {}  # as with Docker, -p means nothing here
    endpoint = container["Networks"]["lan"]
    assert endpoint["NetworkID"] == made
    assert (endpoint["IPAddress"], endpoint["IPPrefixLen"]) == ("192.168.7.8", 24)
    assert (endpoint["Gateway"], endpoint["MacAddress"]) == (MACHINE, "02:00:5e:10:00:07")
    assert "active endpoints" in cli("network rm lan", fails=True)


def test_a_running_container_joins_and_leaves_and_outlives_the_daemon(
    cli: Cli, machine: str, host: Daemon
) -> None:
    cli(NETWORK)
    cli("run", "-d", "--name", "web", "busybox", *SERVE)
    cli("network connect --ip 192.168.7.12 lan web")
    eventually(lambda: fetch(machine, "192.168.7.12") == "served")
    assert "eth1" in cli("exec web ip link")
    host.kill()
    host.start()
    eventually(lambda: fetch(machine, "192.168.7.12") == "served")
    cli("network disconnect lan web")
    assert "eth1" not in cli("exec web ip link")
    assert fetch(machine, "192.168.7.12") == ""
    cli("network connect lan web")
    cli("restart -t 0 web")
    [address] = cli("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}}", "web").split()
    eventually(lambda: fetch(machine, address) == "served")


def test_an_internal_network_of_no_parent_and_what_cannot_be(cli: Cli, machine: str) -> None:
    cli("network create -d macvlan --subnet 10.88.0.0/24 nowhere")
    cli("run", "-d", "--name", "web", "--net", "nowhere", "busybox", *SERVE)
    client = ("run", "--rm", "--net", "nowhere", "busybox")
    assert cli(*client, "wget", "-qO-", "http://web/") == "served"
    assert "default" not in cli(*client, "ip", "route")
    refused = cli("network create -d macvlan -o parent=em9 bad", fails=True)
    assert "invalid subinterface vlan name em9, example formatting is eth0.10" in refused
    assert "bad" not in cli("network ls --format {{.Name}}").split()
