"""What cannot be: Docker's status and a sentence that names the culprit, and all is as before."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Daemon, running

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

POOL = "--default-address-pool=base=10.95.0.0/28,size=29"
OPTIONS = (POOL, "--bip=10.94.0.1/24")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with little room, some networks, and a container on two of them."""
    with running(*OPTIONS) as made:
        made.import_image()
        for name, subnet, more in (
            ("taken", "10.91.0.0/24", {}),
            ("tiny", "10.92.0.0/30", {}),
            ("quiet", "10.93.0.0/24", {"Internal": True}),
        ):
            create_network(made, name, subnet, **more)
        for _ in range(2):
            assert create_network(made, f"pool{_}").status == 201
        assert create_network(made, "plan", "10.96.0.0/24", ConfigOnly=True).status == 201
        start(made, "web", "taken", {"IPv4Address": "10.91.0.9"}, ports={"80/tcp": "8080"})
        start(made, "full", "tiny", {})
        start(made, "hosted", "host", None)
        yield made


def create_network(daemon: Daemon, name: str, subnet: str = "", **more: Any) -> Any:
    config = [{"Subnet": subnet}] if subnet else []
    body = {"Name": name, "IPAM": {"Config": config}, **more}
    return daemon.request("POST", "/networks/create", body)


def container(
    network: str, address: dict[str, str] | None = None, ports: dict[str, str] | None = None
) -> dict[str, Any]:
    bindings = {port: [{"HostPort": host}] for port, host in (ports or {}).items()}
    body: dict[str, Any] = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    body["HostConfig"] = {"NetworkMode": network, "PortBindings": bindings}
    if address is not None:
        body["NetworkingConfig"] = {"EndpointsConfig": {network: {"IPAMConfig": address}}}
    return body


def start(
    daemon: Daemon,
    name: str,
    network: str,
    address: dict[str, str] | None,
    ports: dict[str, str] | None = None,
) -> None:
    body = container(network, address, ports)
    assert daemon.request("POST", f"/containers/create?name={name}", body).status == 201
    answer = daemon.request("POST", f"/containers/{name}/start")
    assert answer.status == 204, answer.body


def all_of(daemon: Daemon) -> tuple[Any, ...]:
    """Return what there is: networks, interfaces, rules, records."""

    def output(*command: str) -> str:
        full = [*daemon.enter, *command]
        return subprocess.run(full, check=True, capture_output=True, text=True).stdout

    networks = daemon.request("GET", "/networks").json
    links = re.findall(r"alias sampan:(?!pool)\S+", output("ip", "-o", "link"))
    state = daemon.folder / "exec" / "network"
    kept = sorted(str(it) for kind in ("networks", "endpoints") for it in (state / kind).iterdir())
    containers = daemon.request("GET", "/containers/json?all=1").json
    names = sorted(it["Names"][0] for it in containers if not it["Names"][0].startswith("/new"))
    rules = output("nft", "list", "table", "inet", "sampan")
    return json.dumps(networks, sort_keys=True), sorted(links), rules, kept, names


def ipam(**config: Any) -> dict[str, Any]:
    return {"IPAM": {"Config": [config]}}


NO_ROOM = "all predefined address pools have been fully subnetted"
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
OPTION = "com.docker.network.bridge."
ENDPOINT = "com.docker.network.endpoint."

#: What is wrong with a new network: (body beside its name, status, words of the sentence).
NETWORKS: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, NO_ROOM),
    (ipam(Subnet="10.91.0.128/25"), 403, OVERLAP),
    (ipam(Subnet="10.0.0.0/8"), 403, OVERLAP),
    (ipam(Subnet="10.94.0.0/16"), 403, OVERLAP),
    (ipam(Subnet="10.1.0.300/24"), 400, "invalid subnet 10.1.0.300/24: invalid CIDR block"),
    (ipam(Subnet="10.1.0.0"), 400, "invalid subnet 10.1.0.0: invalid CIDR block notation"),
    (ipam(Subnet="10.1.0.1/24"), 400, "invalid subnet 10.1.0.1/24: it should be 10.1.0.0/24"),
    (ipam(Subnet="10.1.0.0/31"), 400, "invalid subnet 10.1.0.0/31: it has no room"),
    (ipam(Gateway="10.1.0.1"), 400, "invalid subnet : invalid CIDR block notation"),
    (ipam(Subnet="10.1.0.0/24", Gateway="10.2.0.1"), 400, "invalid gateway 10.2.0.1: parent "),
    (ipam(Subnet="10.1.0.0/24", Gateway="gate"), 400, "invalid gateway gate: invalid address"),
    (ipam(Subnet="10.1.0.0/24", IPRange="10.1.0.0/16"), 400, "invalid ip-range 10.1.0.0/16: CIDR"),
    (ipam(Subnet="10.1.0.0/24", IPRange="10.2.0.0/25"), 400, "invalid ip-range 10.2.0.0/25: par"),
    (ipam(Subnet="10.1.0.0/24", IPRange="fd00::/64"), 400, "parent subnet is an IPv4 block"),
    (
        ipam(Subnet="10.1.0.0/24", AuxiliaryAddresses={"router": "10.2.0.1"}),
        400,
        "invalid auxiliary address router: parent subnet 10.1.0.0/24 doesn't contain",
    ),
    (
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}, {"Subnet": "10.2.0.0/24"}]}},
        403,
        "bridge driver doesn't support multiple subnets",
    ),
    ({"IPAM": {"Driver": "dhcp"}}, 404, "could not find plugin dhcp"),
    ({"Driver": "nope"}, 404, "could not find plugin nope in v1 plugin registry"),
    ({"Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
    ({"Driver": "null"}, 403, 'only one instance of "null" network is allowed'),
    ({"Driver": "overlay"}, 403, "This node is not a swarm manager"),
    ({"Ingress": True}, 403, "Ingress network can only be global scope network"),
    ({"Scope": "swarm"}, 403, "cannot create a swarm scoped network when swarm is not active"),
    ({"ConfigFrom": {"Network": "taken"}}, 404, '"taken" does not exist'),
    ({"ConfigFrom": {"Network": "plan"}, "Labels": {"a": "b"}}, 403, "user-specified config"),
    ({"ConfigOnly": True, "Internal": True}, 403, "can only contain network specific fields"),
    ({"Options": {OPTION + "enable_icc": "perhaps"}}, 400, "enable_icc"),
    ({"Options": {OPTION + "name": "a/b"}}, 400, "invalid bridge name: 'a/b'"),
    ({"Options": {OPTION + "name": "lo"}, **ipam(Subnet="10.1.0.0/24")}, 409, "lo is not a bridge"),
    ({"Options": {OPTION + "host_binding_ipv4": "x"}}, 400, "host_binding_ipv4 value: x"),
    ({"Options": {OPTION + "gateway_mode_ipv4": "x"}}, 400, "unknown gateway mode x"),
    ({"Options": {"com.docker.network.driver.mtu": "66"}}, 400, "invalid MTU: 66"),
    ({"Options": {"com.docker.network.container_iface_prefix": "e th"}}, 400, "prefix: 'e th'"),
]


@pytest.mark.parametrize(("body", "status", "words"), NETWORKS)
def test_a_network_that_cannot_be_is_not_made(
    daemon: Daemon, body: dict[str, Any], status: int, words: str
) -> None:
    before = all_of(daemon)
    answer = daemon.request("POST", "/networks/create", {"Name": "new", **body})
    assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
    assert all_of(daemon) == before


#: What is wrong with a name: (name, status, words).
NAMES = [
    ("", 400, "name is empty"),
    ("taken", 409, "network with name taken already exists"),
    ("host", 403, "operation is not permitted on predefined host network"),
    ("default", 403, "operation is not permitted on predefined default network"),
    ("a\nb", 400, "invalid network name"),
]


@pytest.mark.parametrize(("name", "status", "words"), NAMES)
def test_a_name_that_cannot_be_is_refused(
    daemon: Daemon, name: str, status: int, words: str
) -> None:
    before = all_of(daemon)
    answer = create_network(daemon, name, "10.1.0.0/24")
    assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
    assert all_of(daemon) == before


#: What is wrong with a removal: (network, status, words).
REMOVALS = [
    ("nosuch", 404, "network nosuch not found"),
    ("bridge", 403, "bridge is a pre-defined network and cannot be removed"),
    ("taken", 403, 'network taken has active endpoints (name:"web" id:"'),
]


@pytest.mark.parametrize(("name", "status", "words"), REMOVALS)
def test_a_network_that_is_needed_stays(daemon: Daemon, name: str, status: int, words: str) -> None:
    before = all_of(daemon)
    answer = daemon.request("DELETE", f"/networks/{name}")
    assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
    assert all_of(daemon) == before


#: What is wrong with one more network of `web`: (network, endpoint, status, words).
CONNECTIONS: list[tuple[str, dict[str, Any], int, str]] = [
    ("nosuch", {}, 404, "network nosuch not found"),
    ("taken", {}, 403, "endpoint with name web already exists in network taken"),
    ("plan", {}, 403, "cannot create endpoint on configuration-only network"),
    ("host", {}, 400, "cannot connect container to host network"),
    ("none", {}, 400, "private (none) mode"),
    ("tiny", {}, 500, "no available IPv4 addresses on this network's address pools: tiny"),
    ("quiet", {"IPAMConfig": {"IPv4Address": "10.91.0.7"}}, 400, "contain the IP address 10.91"),
    ("quiet", {"IPAMConfig": {"IPv4Address": "here"}}, 400, "invalid IPv4 address: here"),
    ("quiet", {"IPAMConfig": {"IPv6Address": "fd00::7"}}, 400, "user configured subnets"),
    ("quiet", {"IPAMConfig": {"IPv4Address": "10.93.0.1"}}, 403, "Address already in use"),
    ("pool0", {"IPAMConfig": {"IPv4Address": "10.95.0.3"}}, 400, "user configured subnets"),
    ("bridge", {"IPAMConfig": {"IPv4Address": "10.94.0.9"}}, 400, "user-defined networks only"),
    ("bridge", {"Aliases": ["x"]}, 400, "network-scoped aliases are only supported for user-"),
    ("quiet", {"MacAddress": "02:42:zz"}, 400, "invalid MAC address: 02:42:zz"),
    ("quiet", {"DriverOpts": {ENDPOINT + "ifname": "a/b"}}, 400, "invalid interface name: a/b"),
    (
        "quiet",
        {"DriverOpts": {ENDPOINT + "sysctls": "net.core.somaxconn=1"}},
        400,
        "unrecognised network interface sysctl 'net.core.somaxconn=1'",
    ),
]


@pytest.mark.parametrize(("network", "endpoint", "status", "words"), CONNECTIONS)
def test_a_connection_that_cannot_be_is_not_made(
    daemon: Daemon, network: str, endpoint: dict[str, Any], status: int, words: str
) -> None:
    before = all_of(daemon)
    body = {"Container": "web", "EndpointConfig": endpoint}
    answer = daemon.request("POST", f"/networks/{network}/connect", body)
    assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
    assert all_of(daemon) == before


#: What is wrong with a disconnection: (network, container, status, words).
DISCONNECTIONS = [
    ("nosuch", "web", 404, "network nosuch not found"),
    ("taken", "nosuch", 404, "No such container: nosuch"),
    ("quiet", "web", 403, "is not connected to network quiet"),
    ("host", "hosted", 400, "cannot disconnect container from host network"),
]


@pytest.mark.parametrize(("network", "name", "status", "words"), DISCONNECTIONS)
def test_a_disconnection_that_cannot_be_changes_nothing(
    daemon: Daemon, network: str, name: str, status: int, words: str
) -> None:
    before = all_of(daemon)
    answer = daemon.request("POST", f"/networks/{network}/disconnect", {"Container": name})
    assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
    assert all_of(daemon) == before


#: What is wrong with a new container: (its body, status of create or start, words).
CONTAINERS: list[tuple[dict[str, Any], int, str]] = [
    (container("nosuch"), 404, "network nosuch not found"),
    (container("plan"), 403, "cannot create endpoint on configuration-only network"),
    (container("container:nosuch"), 400, "No such container: nosuch"),
    (container("tiny"), 500, "no available IPv4 addresses on this network's address pools: tiny"),
    (container("taken", {"IPv4Address": "10.91.0.9"}), 403, "Address already in use"),
    (container("taken", {"IPv4Address": "10.1.0.9"}), 400, "contain the IP address 10.1.0.9"),
    (container("bridge", {"IPv4Address": "10.94.0.9"}), 400, "user-defined networks only"),
    (container("bridge", ports={"80/tcp": "8080"}), 500, "Bind for 0.0.0.0:8080 failed: port is"),
    (container("bridge", ports={"80/tcp": "65536"}), 400, "invalid port specification: "),
    (container("bridge", ports={"80/tcp": "90-80"}), 400, "invalid port specification: "),
    (container("bridge", ports={"0/tcp": "80"}), 400, "invalid port specification: "),
    (container("bridge", ports={"70000/tcp": "80"}), 400, "invalid port"),
    (container("bridge", ports={"80/icmp": "80"}), 400, "invalid port specification: "),
]


@pytest.mark.parametrize(("body", "status", "words"), CONTAINERS)
def test_a_container_that_cannot_be_connected_is_not_started(
    daemon: Daemon, body: dict[str, Any], status: int, words: str
) -> None:
    before = all_of(daemon)
    name = f"new{os.urandom(3).hex()}"
    answer = daemon.request("POST", f"/containers/create?name={name}", body)
    if answer.status == 201:
        answer = daemon.request("POST", f"/containers/{name}/start")
        daemon.request("DELETE", f"/containers/{name}?force=1")
    assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
    assert all_of(daemon) == before
