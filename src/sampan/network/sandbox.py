"""Network namespaces for containers, prepared before anybody asks for them.

A namespace with its interface pair takes the kernel two milliseconds to make; giving a prepared
one an address takes a third of one. Nothing is pinned in the file system: a namespace lives as
long as a process or a descriptor holds it, and its interfaces go with it.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, Self

from sampan.errors import Internal
from sampan.linux.namespaces import CLONE_NEWNET, setns, unshare
from sampan.network.netlink.protocol import Message
from sampan.network.netlink.route_socket import Link, RouteSocket
from sampan.network.netlink.rtnetlink import add_veth, mark_link, no_link_local, set_link

log = logging.getLogger(__name__)

INSIDE: Final = "eth0"  # the prepared interface's name in the namespace
POOL_SIZE: Final = 4
POOL_MAXIMUM: Final = 16
POOL_CALM: Final = 60.0  # seconds without a burst after which the pool shrinks again


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Let this thread be in a network namespace for a moment.

    What is opened there (sockets, files below /proc/sys/net) stays with that namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def write_sysctl(path: str, value: str) -> None:
    """Write a file below /proc/sys/net of the current namespace."""
    fd = os.open(f"/proc/sys/net/{path}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_sysctl(path: str) -> str:
    """Return a file below /proc/sys/net of the current namespace; "" if it does not exist."""
    try:
        with open(f"/proc/sys/net/{path}", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def quietly_write_sysctl(path: str, value: str) -> None:
    """Write a setting that an older or smaller kernel may not have."""
    try:
        write_sysctl(path, value)
    except OSError as error:
        log.debug("net.%s was not set: %s", path.replace("/", "."), error)


class Sandbox:
    """A network namespace, with a socket that configures it from outside."""

    def __init__(self, namespace: int, socket: RouteSocket) -> None:
        self.namespace = namespace
        self._socket = socket

    @classmethod
    def new(cls) -> Self:
        """Make a namespace with loopback up and nothing else."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            try:
                namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                socket = RouteSocket()
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
        sandbox = cls(namespace, socket)
        socket.request(set_link(1, up=True))  # lo is the first interface of every namespace
        return sandbox

    @classmethod
    def of(cls, namespace: int) -> Self:
        """Return a sandbox for a namespace that exists; the descriptor is duplicated."""
        with inside(namespace):
            socket = RouteSocket()
        return cls(os.dup(namespace), socket)

    def request(self, *messages: Message) -> None:
        """Carry out rtnetlink requests inside."""
        self._socket.request(*messages)

    def switch_ipv6_on(self, interface: str) -> None:
        """Let an interface that is down have IPv6, and believe no router that is not ours."""
        with inside(self.namespace):
            write_sysctl(f"ipv6/conf/{interface}/accept_ra", "0")
            write_sysctl(f"ipv6/conf/{interface}/disable_ipv6", "0")

    def set_sysctls(self, interface: str, values: Mapping[str, str]) -> None:
        """Set sysctls of an interface: "ipv4/conf/log_martians" → "1"; raises OSError."""
        with inside(self.namespace):
            for path, value in values.items():
                family, kind, name = path.split("/")
                write_sysctl(f"{family}/{kind}/{interface}/{name}", value)

    def link(self, name: str) -> Link | None:
        """Return an interface inside."""
        return self._socket.link(name)

    def detach(self) -> int:
        """Close the socket and return the namespace's descriptor, which the caller owns."""
        self._socket.close()
        namespace, self.namespace = self.namespace, -1
        return namespace

    def close(self) -> None:
        """Let go; the namespace ends if nobody else holds it."""
        self._socket.close()
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def raise_loopback(sandbox: Sandbox) -> None:
    """Set the loopback interface up of a namespace that somebody else has made."""
    try:
        sandbox.request(set_link(1, up=True))
    except OSError as error:
        raise Internal(f"failed to set up loopback: {error}") from error


class Wired:
    """A sandbox with an interface pair: `inner` in it, `outer` on the host, both down."""

    def __init__(self, sandbox: Sandbox, outer: int, inner: int, inner_name: str) -> None:
        self.sandbox, self.outer, self.inner = sandbox, outer, inner
        self.inner_name = inner_name


def wire(host: RouteSocket, sandbox: Sandbox, name: str, alias: str) -> Wired:
    """Give a sandbox an interface `name`, the other end of which is on the host."""
    outside = _add_pair(host, sandbox, name, alias)
    outer, inner = host.link(outside), sandbox.link(name)
    if outer is None or inner is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), outside)
    host.attempt(no_link_local(outer.index))
    with inside(sandbox.namespace):  # an IPv4 network must not be reachable by IPv6 either
        quietly_write_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
    return Wired(sandbox, outer.index, inner.index, name)


def _add_pair(host: RouteSocket, sandbox: Sandbox, name: str, alias: str) -> str:
    for _ in range(3):
        outside = "veth" + os.urandom(4).hex()[:7]
        if host.link(outside):
            continue  # the random name is taken
        # The mark in the same packet: nobody can be killed before it has it.
        made = add_veth(outside, name, sandbox.namespace)
        host.request(made, mark_link(outside, alias))
        return outside
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), "veth")


class Pool:
    """Wired sandboxes in stock.

    `take` never waits for the stock: an empty pool makes one on the spot. `refill` makes one at a
    time, so that its caller can look for work in between. A burst makes the pool larger for a
    minute.
    """

    def __init__(self, host: RouteSocket, size: int, alias: str) -> None:
        self._host = host
        self.alias = alias
        self._size = self._target = size
        self._stock: deque[Wired] = deque()
        self._last_burst = 0.0

    def __len__(self) -> int:
        return len(self._stock)

    @property
    def lacks(self) -> bool:
        """Whether `refill` has something to do."""
        return len(self._stock) < self._target

    @property
    def has_surplus(self) -> bool:
        """Whether a burst has left more than a quiet time needs."""
        return self._target > self._size

    def take(self) -> Wired:
        """Return a wired sandbox that the caller owns."""
        if self._stock:
            return self._stock.popleft()
        if self._size:
            self._target = min(self._target * 2, POOL_MAXIMUM)
            self._last_burst = time.monotonic()
        return self._make()

    def refill(self) -> None:
        """Make one, if the pool is not full."""
        if self.lacks:
            self._stock.append(self._make())

    def shrink(self) -> None:
        """Go back to the usual size if the last burst is long ago."""
        if time.monotonic() - self._last_burst < POOL_CALM:
            return
        self._target = self._size
        while len(self._stock) > self._target:
            self._stock.pop().sandbox.close()

    def close(self) -> None:
        """Let all go."""
        self._target = self._size = 0
        while self._stock:
            self._stock.pop().sandbox.close()

    def _make(self) -> Wired:
        sandbox = Sandbox.new()
        try:
            return wire(self._host, sandbox, INSIDE, self.alias)
        except BaseException:
            with suppress(OSError):
                sandbox.close()
            raise
