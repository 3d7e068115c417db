"""The resolver's process, as the network helper sees it: found again or started, told, ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from sampan import rpc
from sampan.errors import Internal, SampanError
from sampan.network.firewall.nftables import redirect_names
from sampan.network.resolver.contract import ADDRESS, Resolver
from sampan.network.sandbox import inside

log = logging.getLogger(__name__)

MODULE: Final = "sampan.helpers.resolver"
PATIENCE: Final = (
    5.0  # seconds for a call: it starts in a tenth of one, and calls take microseconds
)
BACKLOG: Final = 16
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Process:
    """A running resolver, and the connection with it."""

    def __init__(self, sock: socket.socket, pid: int, *, is_child: bool) -> None:
        self.socket, self._pid, self._is_child = sock, pid, is_child
        self._pidfd = os.pidfd_open(pid)
        self.calls: Resolver = rpc.connect(Resolver, sock, PATIENCE)  # type: ignore[type-abstract]

    @classmethod
    def find(cls, folder: Path | None) -> Self | None:
        """Connect with the one that a predecessor started; None if there is none."""
        if folder is None or not (path := _path(folder)).exists():
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(str(path))
            size = _CREDENTIALS.size
            pid, _, _ = _CREDENTIALS.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            )
            return cls(sock, pid, is_child=False)
        except OSError as error:
            sock.close()
            log.info("the resolver of a predecessor is gone: %s", error)
            return None

    @classmethod
    def start(cls, folder: Path | None, resolv_conf: Path) -> Self:
        """Execute a new one; with `folder` a successor of ours can find it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, ExitStack() as stack:
                listener = stack.enter_context(_listener(folder)) if folder else None
                log_file = os.devnull if folder is None else str(folder / "resolver.log")
                passed = [theirs, *([listener] if listener else [])]
                for sock in passed:
                    sock.set_inheritable(True)
                numbers = [str(theirs.fileno()), str(listener.fileno() if listener else -1)]
                command = [sys.executable, "-I", "-m", MODULE, *numbers, str(resolv_conf)]
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                pid = os.posix_spawn(
                    sys.executable,
                    [*command, str(folder or "")],
                    {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 2, log_file, flags, 0o600),
                        *((os.POSIX_SPAWN_CLOSE, it) for it in _inherited(but=passed)),
                    ],
                    setsid=True,
                    setsigmask=[],
                    setsigdef=[signal.SIGINT, signal.SIGTERM],
                )
        except OSError as error:
            ours.close()
            raise Internal(f"the resolver of container names did not start: {error}") from error
        log.info("the resolver of container names started as pid %d", pid)
        return cls(ours, pid, is_child=True)

    def close(self) -> None:
        """Let it be: it serves its clients, and ends by itself when it has none."""
        self.socket.close()
        os.close(self._pidfd)

    def end(self) -> None:
        """Kill it, if it is not dead already."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.close()
        if self._is_child:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)


def _inherited(*, but: Collection[socket.socket]) -> list[int]:
    """Return the descriptors that an executed program would have of ours: those of libnftables."""
    kept = {0, 1, 2, *(sock.fileno() for sock in but)}
    found = []
    for number in {int(name) for name in os.listdir("/proc/self/fd")} - kept:
        with suppress(OSError):  # that of the list itself
            if os.get_inheritable(number):
                found.append(number)
    return found


def _path(folder: Path) -> Path:
    return folder / "resolver.sock"


def _listener(folder: Path) -> socket.socket:
    """Return a bound socket; the folder is for root only. The resolver itself calls listen(2)."""
    path = _path(folder)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


def open_sockets(namespace: int) -> tuple[socket.socket, socket.socket]:
    """Return a bound UDP and a listening TCP socket for questions in a namespace.

    They are at ports that the kernel chose, to which port 53 leads, as with Docker: a container
    may run a name server of its own on port 53 of all addresses.
    """
    with ExitStack() as undo, inside(namespace):
        made = []
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                made.append(undo.enter_context(socket.socket(socket.AF_INET, kind)))
                made[-1].bind((ADDRESS, 0))
            udp, tcp = made
            tcp.listen(BACKLOG)
            redirect_names(ADDRESS, udp.getsockname()[1], tcp.getsockname()[1])
        except (OSError, SampanError) as error:
            raise Internal(f"container names cannot be served: {error}") from error
        undo.pop_all()
    return udp, tcp
