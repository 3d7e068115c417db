"""In front of a process: signals go in, terminal bytes both ways, its status comes out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from types import FrameType

from sampan.runtime.starting.launch import Launched

#: Signals that are about us, or that cannot be caught.
_OURS = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCHLD,
    signal.SIGWINCH,
    signal.SIGPIPE,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGURG,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
_CHUNK = 1 << 14


class Foreground:
    """The caller's side of a process that is not detached; use as a context manager."""

    def __init__(self, launched: Launched) -> None:
        self._pid = launched.pid
        self._pidfd = launched.pidfd.number
        self._master = launched.master.number if launched.master else -1
        self._saved: list[object] | None = None

    def __enter__(self) -> Foreground:
        for number in set(signal.valid_signals()) - _OURS:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, self._forward)
        if self._master >= 0 and os.isatty(0):
            signal.signal(signal.SIGWINCH, self._resize)
            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
            self._resize(0, None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            self._saved = None
        for fd in (self._pidfd, self._master):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._master = -1

    def wait(self) -> int:
        """Wait for the end of the process; return its exit status as a shell has it."""
        if self._master >= 0:
            self._relay()
        while True:
            pid, status = os.wait()  # orphans of a subreaper are collected on the way
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code

    def _relay(self) -> None:
        """Copy between our standard streams and the terminal until the process has ended."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        poll.register(0, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if 0 in ready and not self._copy(0, self._master):
                poll.unregister(0)
            if self._master in ready and not self._copy(self._master, 1):
                return
            if self._pidfd in ready and self._master not in ready:
                return

    @staticmethod
    def _copy(source: int, target: int) -> bool:
        try:
            data = memoryview(os.read(source, _CHUNK))
        except OSError:  # EIO: the other side of the terminal is closed
            return False
        if not data:
            return False
        while data:
            data = data[os.write(target, data) :]
        return True

    def _forward(self, number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _resize(self, _: int, __: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(sys.stdin.fileno(), termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
