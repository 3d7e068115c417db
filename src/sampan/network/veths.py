"""Pairs of interfaces, one end on the host: in stock, in use, and cut off to be removed in time."""

from __future__ import annotations

import errno
import socket

from sampan.errors import Internal
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import delete_link, set_link
from sampan.network.sandbox import Pool, Sandbox, Wired, wire
from sampan.rpc import Fd


class Veths:
    """Gives out pairs; with a stock only if somebody calls `work`."""

    def __init__(self, host: RouteSocket, stock: int, alias: str) -> None:
        self._host = host
        self._pool = Pool(host, stock, alias)
        self._dying: list[int] = []  # interfaces that were cut off

    def take(self, interface: str, sandbox: Fd | None) -> Wired:
        """Return a pair that the caller owns: `interface` in a namespace, by default a fresh one.

        In a fresh one its name is that of interfaces in stock. Raises Internal.
        """
        try:
            if sandbox is None:
                return self._pool.take()
            given = Sandbox.of(sandbox.number)
            try:
                try:
                    return wire(self._host, given, interface, self._pool.alias)
                except FileExistsError:  # perhaps one that was cut off a moment ago
                    self.bury()
                    return wire(self._host, given, interface, self._pool.alias)
            except BaseException:
                given.close()
                raise
        except OSError as error:
            raise Internal(f"failed to add interface {interface}: {error}") from error

    def cut(self, outer: int) -> None:
        """Take an interface off its bridge; the rest of its removal may wait.

        Removing a pair costs 20 ms of waiting in the kernel, cutting it off half a millisecond,
        and nothing if the namespace has ended already.
        """
        if not outer:
            return
        # With the mark of the stock: a successor removes what we were killed before removing.
        alias = self._pool.alias
        [error] = self._host.attempt(set_link(outer, master=0, up=False, alias=alias))
        if error is None:
            self._dying.append(outer)
        elif error.errno != errno.ENODEV:
            raise error

    def bury(self, at_most: int = 1 << 30) -> None:
        """Remove interfaces that were cut off, where their namespaces have not ended by now."""
        while self._dying and at_most:
            self._host.attempt(delete_link(self._dying.pop()))
            at_most -= 1

    # --- work between calls ------------------------------------------------------------------

    @property
    def has_dying(self) -> bool:
        """Whether `bury` has something to do."""
        return bool(self._dying)

    @property
    def lacks(self) -> bool:
        """Whether `refill` has something to do."""
        return self._pool.lacks

    @property
    def is_empty(self) -> bool:
        """Whether the next `take` would have to make a namespace first."""
        return not len(self._pool)

    @property
    def has_surplus(self) -> bool:
        """Whether `shrink` may have something to do later."""
        return self._pool.has_surplus

    def refill(self) -> None:
        """Add one to the stock."""
        self._pool.refill()

    def shrink(self) -> None:
        """Let go of namespaces that only a burst of starts needed."""
        self._pool.shrink()

    def close(self) -> None:
        """Let go of the stock."""
        self._pool.close()


def index_of(interface: str) -> int:
    """Return the index of an interface of this namespace, 0 if there is none of that name."""
    try:
        return socket.if_nametoindex(interface) if interface else 0
    except OSError:
        return 0
