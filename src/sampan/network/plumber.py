"""The contract of the network helper: networks, endpoints, published ports."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from sampan.rpc import Fd

#: How a family's addresses are reached from elsewhere (moby's gateway modes).
GatewayMode = Literal["nat", "nat-unprotected", "routed", "isolated"]


class BridgeSpec(msgspec.Struct, tag="bridge", kw_only=True, forbid_unknown_fields=True):
    """A bridge network as it should be."""

    network_id: str
    name: str  # interface name, e.g. sampan0
    subnet: str  # 172.17.0.0/16
    gateway: str  # 172.17.0.1
    subnet6: str = ""  # fd00::/64; "" for a network without IPv6
    gateway6: str = ""  # fd00::1
    mtu: int = 0  # 0: that of the interface with the default route
    masquerade: bool = True
    inter_container: bool = True  # --icc
    internal: bool = False
    foreign: bool = False  # somebody else's bridge: it gets nothing but an address if it has none
    forwarding: bool = True  # switch the host's forwarding of packets on
    mode: GatewayMode = "nat"
    mode6: GatewayMode = "nat"
    domain: str = ""  # the name of a network on which containers find one another by name


class MacvlanSpec(msgspec.Struct, tag="macvlan", kw_only=True, forbid_unknown_fields=True):
    """A network whose interfaces are on the wire of one of the host's, with addresses of theirs."""

    network_id: str
    parent: str  # eth0; eth0.10 is made if it does not exist; "": none, the network leads nowhere
    mode: Literal["bridge", "private", "vepa", "passthru"] = "bridge"
    internal: bool = False
    domain: str = ""  # as of a bridge


class IpvlanSpec(msgspec.Struct, tag="ipvlan", kw_only=True, forbid_unknown_fields=True):
    """A network whose interfaces share the MAC address of one of the host's."""

    network_id: str
    parent: str
    mode: Literal["l2", "l3", "l3s"] = "l2"
    flag: Literal["bridge", "private", "vepa"] = "bridge"
    internal: bool = False
    domain: str = ""


NetworkSpec = BridgeSpec | MacvlanSpec | IpvlanSpec


class EndpointSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One container's interface on one network."""

    endpoint_id: str
    network_id: str
    address: str  # 172.17.0.2/16
    mac_address: str  # 02:42:ac:11:00:02; "": what the kernel gives it
    gateway: str  # "" for none, 0.0.0.0 for all that is out of the interface itself
    address6: str = ""  # fd00::2/64; "": IPv6 stays switched off on the interface
    gateway6: str = ""
    interface: str = "eth0"  # its name inside
    container_id: str = ""  # whose it is; for `resolve` and `endpoints`
    more_addresses: list[str] = []  # link-local ones of the user: 169.254.1.2/16
    names: list[str] = []  # by which it is found on a network with a domain
    sysctls: dict[str, str] = {}  # of the interface: "ipv4/conf/log_martians" → "1"


class ResolverSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a container finds names."""

    container_id: str
    servers: list[str] = []  # who is asked what no container is called; []: those of the host
    aliases: dict[str, str] = {}  # names for this container only → name on its networks


class PortMapping(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One published port."""

    protocol: Literal["tcp", "udp", "sctp"]
    host_address: str  # 0.0.0.0, 127.0.0.1, ::
    host_port: int  # 0: any free port, or none if it is routed
    container_port: int
    host_port_end: int = 0  # the first free port of host_port-host_port_end; 0: just host_port
    routed: bool = False  # reached at the container's own address, and at no port of the host


class Peer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A port of another container that one may reach where others may not (--link, --icc=false)."""

    address: str
    protocol: Literal["tcp", "udp", "sctp"]
    port: int


class Endpoint(msgspec.Struct, kw_only=True):
    """An endpoint as it was made, with its published ports."""

    endpoint: EndpointSpec
    ports: list[PortMapping] = []
    peers: list[Peer] = []
    inner: int = 0  # index of an interface inside that has no other end on the host


class PlugEnd(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An interface that a user puts into a container by hand."""

    interface: str = ""  # "": the first of eth0, eth1 … that is free
    addresses: list[str] = []  # 192.168.7.40/20
    gateways: list[str] = []  # where default routes lead
    mac_address: str = ""


class IntoBridge(msgspec.Struct, tag="bridge", kw_only=True, forbid_unknown_fields=True):
    """The other end is a port of a bridge of the host, which is made if it does not exist."""

    name: str
    port: str = ""  # an interface of the host that becomes a port of the bridge as well


class OntoParent(msgspec.Struct, tag="macvlan", kw_only=True, forbid_unknown_fields=True):
    """It is on the wire of an interface of the host, with a MAC address of its own."""

    parent: str  # as of a macvlan network
    mode: Literal["bridge", "private", "vepa", "passthru"] = "bridge"


class ToPeer(msgspec.Struct, tag="peer", kw_only=True, forbid_unknown_fields=True):
    """The other end is in another container."""

    container_id: str
    end: PlugEnd


class PlugSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a user has plugged into a running container."""

    plug_id: str
    container_id: str
    end: PlugEnd
    into: IntoBridge | OntoParent | ToPeer


class Plumber(Protocol):
    """Does everything to the host's network that needs privilege."""

    def ensure_network(self, network: NetworkSpec) -> None:
        """Make or repair what a network needs on the host; idempotent.

        That is a bridge with its address, forwarding and firewall rules, or a parent interface.
        """

    def remove_network(self, network_id: str) -> None:
        """Remove a network with its rules and endpoints; unknown ids are no error."""

    def foreign_bridge(self, name: str) -> list[str] | None:
        """Return the IPv4 addresses of a bridge that is not ours; None if there is none."""

    def free_subnet(self, pools: list[str], taken: list[str], own: str = "") -> str:
        """Return the first subnet of `pools` ("172.17.0.0/16" …) that no route or address uses.

        Those of the interface `own`, the bridge that asks again, do not count.
        """

    def sandbox(self) -> Fd:
        """Return a fresh network namespace with loopback up (and nothing else)."""

    def attach(self, endpoint: EndpointSpec, sandbox: Fd | None = None) -> Fd:
        """Put an interface with address and routes into a namespace, by default a fresh one.

        Returns the namespace, loopback of which is up. Endpoints are kept by id: attaching the
        same one again replaces it.
        """

    def detach(self, endpoint_id: str, sandbox: Fd | None = None) -> None:
        """Remove an endpoint, its interface and its published ports; unknown ids are no error.

        `sandbox` is the namespace of a container that runs on: some interfaces end only there.
        """

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, those of a predecessor as well."""

    def publish(self, endpoint_id: str, ports: list[PortMapping]) -> list[PortMapping]:
        """Publish all ports or none, and return them with host ports filled in.

        Neighbours in the list that differ only in the host's address get the same host port. A
        mapping of "::" is left out where the host has no IPv6. Conflict with Docker's words if
        one is taken: "Bind for 0.0.0.0:80 failed: port is already allocated".
        """

    def unpublish(self, endpoint_id: str, ports: list[PortMapping]) -> None:
        """Take published ports back; those that are not published are no error."""

    def link(self, endpoint_id: str, peers: list[Peer]) -> None:
        """Let an endpoint reach these ports of its network, and no others as before."""

    def route(self, endpoint_id: str, gateway: str, gateway6: str, sandbox: Fd) -> None:
        """Have the default routes lead to gateways of an endpoint's network; "": no longer."""

    def resolve(self, resolver: ResolverSpec, sandbox: Fd) -> None:
        """Answer DNS at 127.0.0.11 in a namespace: names on the networks of a container.

        Other names are asked of servers outside, unless all of its networks are internal. To be
        called after `attach`; follows its later endpoints, and ends with the last of them.
        """

    def rename(self, endpoint_id: str, names: list[str]) -> None:
        """Have an endpoint found by other names; NotFound if there is no such endpoint."""

    def plug(self, plug: PlugSpec, sandbox: Fd, peer: Fd | None = None) -> PlugSpec:
        """Put an interface into a namespace that a user has asked for, and return its name in it.

        `peer` is the namespace of the other container, for a pair.
        """

    def unplug(self, plug_id: str, sandbox: Fd | None = None, peer: Fd | None = None) -> None:
        """Take it back, with what was made for it on the host; unknown ids are no error.

        `sandbox` and `peer` are the namespaces of containers that run on.
        """

    def plugs(self) -> list[PlugSpec]:
        """Return all that is plugged, by a predecessor as well."""

    def reconcile(self, endpoint_ids: list[str], network_ids: list[str] | None = None) -> None:
        """Remove all endpoints, plugs, networks and rules of ours that are not listed.

        The first list is that of endpoints and plugs. Called at daemon start; without
        `network_ids` networks stay.
        """
