"""The network helper's loop: calls first; between them, the work that no caller waits for."""

from __future__ import annotations

import select
import socket
from typing import Final

from sampan import rpc
from sampan.network.chores import Chores
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.plumber import Plumber

LULL: Final = 20  # milliseconds without a call after which there is time for other work
POOL_CHECK: Final = 61_000  # milliseconds: a burst is over


def serve(sock: socket.socket, plumber: LinuxPlumber) -> None:
    """Answer calls until the other end closes."""
    connection = rpc.Connection(sock, rpc.Contract(Plumber), plumber)
    chores = plumber.chores
    poll = select.poll()
    watched: set[int] = set()
    poll.register(connection, select.POLLIN)
    is_quiet = True
    while True:
        now = set(chores.watched())
        for number in watched - now:
            poll.unregister(number)
        for number in now - watched:
            poll.register(number, select.POLLIN)
        watched = now
        ready = poll.poll(_patience(chores, is_quiet))
        is_quiet = not ready
        for number, _ in ready:
            if number != connection.fileno():
                chores.handle(number)
            elif not connection.answer_one():
                return
        if is_quiet:
            chores.work() if chores.is_left else chores.shrink()


def _patience(chores: Chores, is_quiet: bool) -> int | None:
    """Return the milliseconds until work between calls begins; None: there is none."""
    if chores.is_left:
        return 0 if is_quiet or chores.is_short else LULL
    return POOL_CHECK if chores.has_surplus else None
