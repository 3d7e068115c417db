"""The privileged helpers as the supervisor sees them: a program, and a socket that shows its life.

This module runs in the supervisor: it imports little.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence

CONNECT_SECONDS = 10.0
CONNECT_PAUSE = 0.02


def execute(module: str, arguments: Sequence[str], pass_fd: int = -1) -> int:
    """Run `python -m module` in a session of its own; return its pid."""
    if pass_fd >= 0:
        os.set_inheritable(pass_fd, True)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    command = [sys.executable, "-I", "-m", module, *arguments]
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    return os.posix_spawn(sys.executable, command, environment, file_actions=[null], setsid=True)


class Helper:
    """A helper that serves one inherited socket, and ends when the last copy is closed."""

    def __init__(self, name: str, module: str, arguments: Sequence[str]) -> None:
        self.name, self._module, self._arguments = name, module, arguments
        self.sock: socket.socket | None = None
        self.pid = 0

    def start(self) -> None:
        """Start the helper; `sock` is the client's end."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = execute(
                self._module, [str(theirs.fileno()), *self._arguments], theirs.fileno()
            )
        self.sock = ours

    def close(self) -> None:
        """Let the helper end."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Lasting(Helper):
    """A helper that outlives us: it is found by its path, and started only if nobody answers."""

    def __init__(self, name: str, path: str, start: Callable[[], int]) -> None:
        super().__init__(name, "", ())
        self._path, self._start = path, start

    def start(self) -> None:
        self.close()
        self.sock = self._connect()
        if self.sock is not None:
            return
        self.pid = self._start()
        end = time.monotonic() + CONNECT_SECONDS
        while self.sock is None:
            if time.monotonic() > end:
                raise TimeoutError(f"the {self.name} did not open {self._path} in time")
            time.sleep(CONNECT_PAUSE)
            self.sock = self._connect()

    def _connect(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            return None
        return sock
