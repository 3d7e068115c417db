"""A host for network tests: a network namespace of its own, with a neighbour on the other side.

Nothing here touches the network of the machine. Sockets are made inside a namespace and used from
outside, so that no program has to be run there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import add_address, add_default_route, add_veth, set_link
from sampan.network.sandbox import Sandbox, inside, write_sysctl
from tests.session import PATIENCE, unique

HOST, NEIGHBOUR = "198.51.100.1", "198.51.100.2"
HOST6, NEIGHBOUR6 = "2001:db8::1", "2001:db8::2"


@dataclass
class Hosts:
    """The test itself runs in `host`; `neighbour` is another machine on the same wire."""

    host: int
    neighbour: int


@contextmanager
def named() -> Iterator[str]:
    """Make a network namespace with a name, where programs can reach one another on loopback."""
    name = unique()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Move this thread to a new host for a while."""
    with Sandbox.new() as host, Sandbox.new() as neighbour, inside(host.namespace):
        write_sysctl("ipv4/ip_forward", "0")  # the kernel copies what the machine has
        with RouteSocket() as here:
            here.request(add_veth("uplink0", "uplink0", neighbour.namespace))
            write_sysctl("ipv6/conf/all/forwarding", "0")
            for socket_, address, address6 in (
                (here, HOST, HOST6),
                (neighbour, NEIGHBOUR, NEIGHBOUR6),
            ):
                link = socket_.link("uplink0")
                assert link is not None
                socket_.request(
                    set_link(link.index, up=True),
                    add_address(link.index, IPv4Interface(f"{address}/24")),
                    add_address(link.index, IPv6Interface(f"{address6}/64")),
                )
        yield Hosts(host.namespace, neighbour.namespace)


def route_through_host(neighbour: int) -> None:
    """Let the neighbour send everything through the host, as an attacker on the wire could."""
    with Sandbox.of(neighbour) as sandbox:
        link = sandbox.link("uplink0")
        assert link is not None
        sandbox.request(
            add_default_route(IPv4Address(HOST), link.index),
            add_default_route(IPv6Address(HOST6), link.index),
        )


def links(namespace: int | None = None) -> set[str]:
    """Return the names of the interfaces of a namespace, by default the current one."""
    with ExitStack() as stack:
        if namespace is not None:
            stack.enter_context(inside(namespace))
        netlink = stack.enter_context(RouteSocket())
        return {link.name for link in netlink.links()}


@contextmanager
def tcp_server(namespace: int, port: int) -> Iterator[None]:
    """Answer every connection with the client's address, then echo what it sends."""
    with inside(namespace):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, (address, *_) = listener.accept()
                with client:
                    client.sendall(address.removeprefix("::ffff:").encode() + b"\n")
                    while data := client.recv(1 << 16):
                        client.sendall(data)

    with _serving(serve, listener):
        yield


@contextmanager
def udp_server(namespace: int, port: int) -> Iterator[None]:
    """Answer every datagram with the client's address."""
    with inside(namespace):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))

    def serve() -> None:
        with suppress(OSError):
            while client := sock.recvfrom(1 << 16)[1]:  # None: shut down
                sock.sendto(client[0].removeprefix("::ffff:").encode(), client)

    with _serving(serve, sock):
        yield


@contextmanager
def _serving(serve: Callable[[], None], sock: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)
        sock.close()


def ask_tcp(namespace: int, address: str, port: int, timeout: float = PATIENCE) -> str:
    """Connect and return what the server says first; raises OSError."""
    with inside(namespace):
        with socket.create_connection((address, port), timeout=timeout) as client:
            return client.makefile().readline().strip()


def ask_udp(
    namespace: int, address: str, port: int, timeout: float = PATIENCE, source: int = 0
) -> str:
    """Send a datagram and return the answer; raises TimeoutError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(namespace), socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind(("", source))
        client.settimeout(timeout)
        client.sendto(b"?", (address, port))
        data, (answered, *_) = client.recvfrom(1 << 16)
        assert answered == address, "the answer comes from the address that was asked"
        return data.decode()


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
