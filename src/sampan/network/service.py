"""The network helper's loop: calls first; between them, the work that no caller waits for."""

from __future__ import annotations

import select
import socket
from typing import Final

from sampan import rpc
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.plumber import Plumber

LULL: Final = 20  # milliseconds without a call after which there is time for other work
POOL_CHECK: Final = 61_000  # milliseconds: a burst is over


def serve(sock: socket.socket, plumber: LinuxPlumber) -> None:
    """Answer calls until the other end closes."""
    connection = rpc.Connection(sock, rpc.Contract(Plumber), plumber)
    poll = select.poll()
    watched: set[int] = set()
    poll.register(connection, select.POLLIN)
    is_quiet = True
    while True:
        now = set(plumber.watched())
        for number in watched - now:
            poll.unregister(number)
        for number in now - watched:
            poll.register(number, select.POLLIN)
        watched = now
        ready = poll.poll(_patience(plumber, is_quiet))
        is_quiet = not ready
        for number, _ in ready:
            if number != connection.fileno():
                plumber.handle(number)
            elif not connection.answer_one():
                return
        if is_quiet:
            plumber.work() if plumber.has_work else plumber.shrink()


def _patience(plumber: LinuxPlumber, is_quiet: bool) -> int | None:
    """Return the milliseconds until work between calls begins; None: there is none."""
    if plumber.has_work:
        return 0 if is_quiet or plumber.is_short else LULL
    return POOL_CHECK if plumber.has_surplus else None
