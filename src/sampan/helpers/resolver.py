"""The resolver: python -m sampan.helpers.resolver CONTROL LISTENER RESOLV_CONF [FOLDER].

Answers DNS on sockets that the network helper hands over by CONTROL, or by connections to
LISTENER (-1: none). Gives up all privileges first. It outlives the helper while containers need
it and FOLDER, where its successor would look for LISTENER, is there.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from sampan.linux import capabilities
from sampan.linux.process import PR_SET_NO_NEW_PRIVS, prctl
from sampan.network.publishing.relays import NOBODY
from sampan.network.resolver.loop import Loop
from sampan.network.resolver.server import Control, Server

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until neither a helper nor a container needs it."""
    control, listener = int(sys.argv[1]), int(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each container
    waiting = socket.socket(fileno=listener) if listener >= 0 else None
    if waiting:
        waiting.listen(4)  # here: its clients see this process as the peer
    folder = os.open(sys.argv[4], os.O_PATH | os.O_CLOEXEC) if waiting else -1
    _give_up_privileges()
    loop = Loop()
    server = Server(loop, Path(sys.argv[3]))
    told = Control(loop, server, waiting, folder)
    told.connect(socket.socket(fileno=control))
    while not told.is_idle:
        loop.turn()


def _give_up_privileges() -> None:
    with suppress(PermissionError):  # not root: as a library
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities.capset(0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


if __name__ == "__main__":
    main()
