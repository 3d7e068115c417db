"""Interfaces of the host on which networks are laid: those of the administrator, and ours.

Ours are VLAN sub-interfaces (eth0.10) that did not exist, and, for a network without a parent, a
bridge that never gets a port: a wire that ends in the host. Docker takes a dummy interface, which
smaller kernels lack; see docs/decisions/015-a-bridge-without-ports-as-parent.md.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Final

from sampan.errors import Conflict, Internal, Unsupported
from sampan.network.interface import configure
from sampan.network.made import Made
from sampan.network.netlink.protocol import Message, u16
from sampan.network.netlink.route_socket import Link, RouteSocket
from sampan.network.netlink.rtnetlink import (
    add_bridge,
    add_upper,
    delete_link,
    mark_link,
    no_link_local,
    set_link,
)
from sampan.network.plumber import BridgeSpec, EndpointSpec, IpvlanSpec, MacvlanSpec, NetworkSpec
from sampan.network.sandbox import Sandbox, Wired, inside, quietly_write_sysctl
from sampan.rpc import Fd

log = logging.getLogger(__name__)

MARK: Final = "parent"  # in the alias of ours, after the owner
IFLA_VLAN_ID: Final = 1  # linux/if_link.h
_LOOPBACK: Final = 1  # the index of lo
_CONFIGURATION: Final = {
    "macvlan": "CONFIG_MACVLAN",
    "ipvlan": "CONFIG_IPVLAN",
    "vlan": "CONFIG_VLAN_8021Q",
}
ParentedSpec = MacvlanSpec | IpvlanSpec


def name_of(network: ParentedSpec) -> str:
    """Return the name of a network's parent interface."""
    return network.parent or _own(network)


def _own(network: ParentedSpec) -> str:
    return f"dm-{network.network_id[:12]}"  # as Docker calls its dummy


class Parents:
    """Parent interfaces, and what is laid on them. `networks` are all that exist, by id."""

    def __init__(self, host: RouteSocket, networks: Mapping[str, NetworkSpec], owner: str) -> None:
        self._host, self._networks, self._owner = host, networks, owner
        self._alias = f"{owner}:{MARK}"

    def others(self, network: ParentedSpec) -> Iterator[ParentedSpec]:
        """Yield the other networks on the same parent."""
        for other in self._networks.values():
            if isinstance(other, BridgeSpec) or other.network_id == network.network_id:
                continue
            if name_of(other) == name_of(network):
                yield other

    def require(self, kind: str) -> None:
        """Raise Unsupported if the kernel has no interfaces of a kind."""
        with Sandbox.new() as sandbox:
            try:
                sandbox.request(add_upper(_LOOPBACK, "probe0", kind, b""))
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    raise _unsupported(kind) from error

    def ensure(self, network: ParentedSpec) -> None:
        """Find a parent, or make it if it is to be ours."""
        name = name_of(network)
        try:
            link = self._host.link(name)
            if link is None or not network.parent:
                self._make(network, link)
            elif self._is_a_container_s(link):
                raise Conflict(f"the parent interface {name} belongs to a container")
        except OSError as error:
            raise Internal(f"failed to set up parent interface {name}: {error}") from error

    def remove(self, network: ParentedSpec) -> None:
        """Remove a parent that is ours and has no other network."""
        link = self._host.link(name_of(network))
        if link and link.alias == self._alias and not any(True for _ in self.others(network)):
            self._host.request(delete_link(link.index))

    def attach(
        self, endpoint: EndpointSpec, network: ParentedSpec, data: bytes, sandbox: Fd | None
    ) -> Wired:
        """Put an interface on the parent into a namespace; `data` is what its kind is told."""
        mac = endpoint.mac_address
        with ExitStack() as undo:
            box = Sandbox.of(sandbox.number) if sandbox else Sandbox.new()
            undo.callback(box.close)
            wired = self.lay(
                box, endpoint.interface, mac, network, data, lambda it: configure(it, endpoint)
            )
            undo.pop_all()
        return wired

    def lay(
        self,
        box: Sandbox,
        interface: str,
        mac: str,
        network: ParentedSpec,
        data: bytes,
        configured: Callable[[Wired], None],
    ) -> Wired:
        """Make an interface on the parent in a sandbox and have it `configured`, or leave none."""
        name, kind = name_of(network), str(network.__struct_config__.tag)
        if (parent := self._host.link(name)) is None:
            self.ensure(network)
            parent = self._host.link(name)
        if parent is None:
            raise Internal(f"the requested parent interface {name} was not found on the host")
        made = add_upper(parent.index, interface, kind, data, namespace=box.namespace, mac=mac)
        with ExitStack() as undo:
            try:
                self._host.request(made)
                wired = _found(box, interface)
                undo.callback(_attempt, box, delete_link(wired.inner))
                with inside(box.namespace):  # IPv4 alone, unless it gets more
                    quietly_write_sysctl(f"ipv6/conf/{interface}/disable_ipv6", "1")
                configured(wired)
            except OSError as error:
                raise _failure(interface, network, error) from error
            undo.pop_all()
        return wired

    def detach(self, made: Made, sandbox: Fd | None) -> None:
        """Remove an interface from the namespace of a container that runs on."""
        if not sandbox or not made.inner:
            return  # it ends with its namespace
        with Sandbox.of(sandbox.number) as box:
            _attempt(box, delete_link(made.inner))

    # --- ours --------------------------------------------------------------------------------

    def _is_a_container_s(self, link: Link) -> bool:
        owner, _, mark = link.alias.partition(":")
        return owner == self._owner and mark not in (MARK, "bridge", "plug")

    def _make(self, network: ParentedSpec, link: Link | None) -> None:
        if network.parent:
            self._make_vlan(network)
            return
        name = _own(network)
        if link is None:
            # It must not be told a MAC address: with that the kernel looks for ports, and a bridge
            # without has no carrier (linux net/bridge/br_stp.c, br_port_state_selection).
            self._host.request(add_bridge(name), mark_link(name, self._alias))
            log.info("wire %s made for network %s", name, network.network_id[:12])
            link = self._host.link(name)
        if link is None or link.kind != "bridge" or link.alias not in ("", self._alias):
            raise Conflict(f"existing interface {name} belongs to somebody else")
        quietly_write_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
        self._host.request(set_link(link.index, alias=self._alias, up=True))

    def _make_vlan(self, network: ParentedSpec) -> None:
        base, number = _parsed(network.parent)
        if (lower := self._host.link(base)) is None:
            raise Internal(f"-o parent interface was not found on the host: {base}")
        # Under a name that is ours until it has our mark: whoever is killed in between leaves
        # nothing that looks like the administrator's.
        name = _own(network)
        if left := self._host.link(name):
            self._host.request(delete_link(left.index))
        try:
            added = add_upper(lower.index, name, "vlan", u16(IFLA_VLAN_ID, number))
            self._host.request(added, mark_link(name, self._alias))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise _unsupported("vlan") from error
            raise
        if link := self._host.link(name):
            self._host.attempt(no_link_local(link.index))
            self._host.request(set_link(link.index, name=network.parent, alias=self._alias))
            self._host.request(set_link(link.index, up=True))
            log.info("%s made for network %s", network.parent, network.network_id[:12])


def _parsed(parent: str) -> tuple[str, int]:
    """Return interface and number of a VLAN; Internal in Docker's words.

    Source: moby libnetwork/drivers/macvlan/macvlan_setup.go, createVlanLink.
    """
    parts = parent.split(".")
    if len(parts) == 1:
        raise Internal(f"invalid subinterface vlan name {parent}, example formatting is eth0.10")
    if len(parts) != 2:
        raise Internal(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead "
            f"received {parent}"
        )
    base, number = parts
    if not (number.isascii() and number.isdecimal()):
        raise Internal(f"unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)")
    if not 1 <= int(number) <= 4094:
        raise Internal(f"vlan id must be between 1-4094, received: {number}")
    return base, int(number)


def _unsupported(kind: str) -> Unsupported:
    release, name = os.uname().release, _CONFIGURATION[kind]
    return Unsupported(f"the kernel {release} has no {kind} interfaces ({name})")


def _failure(interface: str, network: ParentedSpec, error: OSError) -> Internal:
    parent, alone = name_of(network), network.mode == "passthru"
    reason = str(error)
    if error.errno == errno.EBUSY or (alone and error.errno == errno.EINVAL):
        reason = (
            f"the parent interface {parent} is in use by another container, if that has it for "
            "itself, or by a bridge, a bond or a network of another kind"
        )
    return Internal(f"failed to set up interface {interface}: {reason}")


def _found(box: Sandbox, interface: str) -> Wired:
    if (link := box.link(interface)) is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    return Wired(box, 0, link.index, interface)


def _attempt(box: Sandbox, message: Message) -> None:
    """Carry out a request inside; what is gone already is no error."""
    try:
        box.request(message)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
