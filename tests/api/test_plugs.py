"""The guide's recipes for containers on networks by hand, each in one line of `network plug`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.daemon import Daemon, running
from tests.lan import fetch, ip, switch
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

MACHINE = "192.168.7.254"  # another machine of the LAN
SERVE = ("sh", "-c", "echo served > /index.html; httpd -f -p 80 -h /")
Cli = Callable[..., str]


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    with running("--bip", "172.17.42.1/16") as daemon:
        daemon.import_image()
        yield daemon


@pytest.fixture
def machine(host: Daemon) -> Iterator[str]:
    """The namespace of another machine, on the wire of the host's interface em1."""
    with switch(f"{MACHINE}/20", host.namespace) as namespace:
        yield namespace
        host.remove_containers()
        # All that was made is gone with the containers, and the card is as it was.
        eventually(lambda: "br0" not in ip(host.namespace, "-o link"))
        eventually(lambda: "sampan-port" not in ip(host.namespace, "-d link"))
        ip(host.namespace, "link del em1")


@pytest.fixture
def cli(host: Daemon) -> Cli:
    def run(*arguments: str, fails: bool = False) -> str:
        words = arguments[0].split() if len(arguments) == 1 else arguments
        done = subprocess.run(
            [host.programs["sampan"], *words],
            env=host.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return (done.stderr if fails else done.stdout).strip()

    return run


@pytest.fixture
def web(cli: Cli, machine: str) -> str:
    """A container without a network that serves a page."""
    cli("run", "-d", "--name", "web", "--net", "none", "busybox", *SERVE)
    return "web"


def test_point_to_point(cli: Cli, web: str) -> None:
    cli("run -d --name other --net none busybox sleep 1000")
    assert cli("network plug --peer other --peer-address 10.1.1.2 web 10.1.1.1") == "eth0"
    assert "10.1.1.1 dev eth0" in cli("exec other ip route")
    fetch = "wget -qO- http://10.1.1.1/ || true"  # it may not serve yet
    eventually(lambda: "served" in cli("exec", "other", "sh", "-c", fetch))
    listed = cli("network plugs other").splitlines()
    assert listed[0].split() == ["INTERFACE", "ADDRESSES", "INTO"]
    assert listed[1].split()[:3] == ["eth0", "10.1.1.2/32", "container"]
    cli("network unplug other eth0")
    assert "eth0" not in cli("exec web ip link")
    cli("network plug --peer other web 10.1.1.1")
    cli("rm -f other")
    eventually(lambda: "eth0" not in cli("exec web ip link"))
    assert cli("network plugs web").splitlines() == ["INTERFACE   ADDRESSES   INTO"]


def test_a_bridge_with_a_real_card(cli: Cli, web: str, machine: str, host: Daemon) -> None:
    cli(f"network plug --bridge br0 --port em1 --gateway {MACHINE} web 192.168.7.40/20")
    eventually(lambda: fetch(machine, "192.168.7.40") == "served")
    assert f"default via {MACHINE}" in cli("exec web ip route")
    assert "master br0" in ip(host.namespace, "-o link show em1")
    host.kill()
    host.start()
    eventually(lambda: fetch(machine, "192.168.7.40") == "served")
    assert "bridge br0 with em1" in cli("network plugs web")
    cli("restart -t 0 web")  # it ends with the container's run
    assert fetch(machine, "192.168.7.40") == ""
    eventually(lambda: "br0" not in ip(host.namespace, "-o link"))


def test_on_the_wire_of_a_card_by_macvlan(cli: Cli, web: str, machine: str) -> None:
    made = cli("network", "plug", "--macvlan", "em1", "--interface", "lan0", "web",
               "192.168.7.41/20")  # fmt: skip
    assert made == "lan0"
    eventually(lambda: fetch(machine, "192.168.7.41") == "served")
    cli("network unplug web lan0")
    assert fetch(machine, "192.168.7.41") == ""


def test_what_docker_does_by_hand(cli: Cli, web: str, host: Daemon) -> None:
    cli("network plug --bridge sampan0 --gateway 172.17.42.1 web 172.17.42.99/16")
    eventually(lambda: fetch(host.namespace, "172.17.42.99") == "served")
    refused = "network plug --bridge sampan0 web 172.17.42.1/16"
    assert "Address already in use" in cli(refused, fails=True)


def test_what_cannot_be_plugged_is_refused(cli: Cli, web: str, machine: str) -> None:
    for line, sentence in (
        ("plug web 10.0.0.1/24", "name one of a bridge, a parent interface and another container"),
        ("plug --bridge br0 nobody", "No such container: nobody"),
        ("plug --peer web web 10.1.1.1", "a container cannot be connected with itself"),
        ("plug --bridge em1 web", "existing interface em1 is not a bridge"),
        ("plug --macvlan em9 web", "invalid subinterface vlan name em9"),
        ("unplug web eth7", "nothing is plugged into container"),
    ):
        assert sentence in cli(f"network {line}", fails=True)
    cli("create --name idle busybox true")
    assert "is not running" in cli("network plug --bridge br0 idle", fails=True)
    cli("run -d --name open --net host busybox sleep 1000")
    assert "has the host's network" in cli("network plug --bridge br0 open", fails=True)
    cli("run -d --name guest --net container:web busybox sleep 1000")
    assert "plug into that one" in cli("network plug --bridge br0 guest", fails=True)
