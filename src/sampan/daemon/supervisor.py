"""The first process: root, small, asleep. Keeps sockets and restarts what dies.

It opens the API's sockets, starts the helpers and forks the daemon, which gives up root. A helper
that dies is started again and its new socket handed to the daemon; a daemon that dies is forked
again and finds the same helpers and the same listening sockets: clients wait, none is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from sampan.daemon.listeners import Listener
from sampan.daemon.services import Helper, Lasting
from sampan.daemon.stopping import WATCHED, held, let_in

READY = b"ready"
FAILED = b"failed "
RELOAD = b"reload "
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # between restarts of something that keeps dying
STABLE_SECONDS = 30.0  # after which a restart counts as the first again
LAST_WORDS = 4  # messages of a dead daemon that are still read
KILL_SECONDS = 5.0  # beyond the daemon's own time limit
HOPELESS = 78  # the exit code of a helper that could never work: see sampan.helpers.mount
Child = Callable[[socket.socket], NoReturn]


def say(sentence: str) -> None:
    """Write to the log, as the supervisor has no logging module."""
    sys.stderr.write(f"supervisor: {sentence}\n")
    sys.stderr.flush()


class Backoff:
    """How long to wait before the next restart."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._last = 0.0

    def next(self) -> float:
        """Return the pause in seconds; it doubles with each early death."""
        now = time.monotonic()
        if now - self._last > STABLE_SECONDS:
            self._pause = 0.0
        self._last = now
        pause = self._pause
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        return pause


class Supervisor:
    """One daemon with its helpers."""

    def __init__(
        self,
        child: Child,
        helpers: list[Helper],
        listeners: list[Listener],
        stop_seconds: float,
        on_ready: Callable[[], None],
        read_reload: Callable[[], bytes],
    ) -> None:
        self._child, self._helpers, self._listeners = child, helpers, listeners
        self._stop_seconds = stop_seconds
        self._on_ready = on_ready
        self._read_reload = read_reload
        self._backoff: dict[str, Backoff] = {}
        self._due: dict[str, float] = {}  # what is to be started again, and when
        self._control: socket.socket | None = None
        self._pid = 0
        self._ready = False
        self._stopping_until = 0.0
        self._exit_code = 0
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_write = wake

    def run(self) -> int:
        """Supervise until told to stop; return the exit code."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in WATCHED:
            signal.signal(number, lambda *_: None)
        let_in()
        try:
            lasting = [helper for helper in self._helpers if isinstance(helper, Lasting)]
            for helper in self._helpers:
                if helper not in lasting:
                    self._start(helper)
            self._fork()
            for helper in lasting:  # may take a while: the daemon loads meanwhile
                self._start(helper)
            while self._pid or not self._stopping_until:
                self._turn()
        finally:
            for helper in self._helpers:
                helper.close()
        return self._exit_code

    # --- starting ----------------------------------------------------------------------------

    def _start(self, helper: Helper) -> None:
        try:
            helper.start()
        except OSError as error:
            say(f"{helper.name}: {error}")
            self._again(helper.name)
            return
        self._hand_over(helper)

    def _hand_over(self, helper: Helper) -> None:
        if self._control is None or helper.sock is None:
            return
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [helper.name.encode()], [helper.sock.fileno()])

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with held():  # what comes for the child must not end in a handler of ours
            self._pid = os.fork()
            if self._pid == 0:
                self._become_child(ours, theirs)
        theirs.close()
        ours.setblocking(False)
        self._control = ours
        for helper in self._helpers:
            self._hand_over(helper)

    def _become_child(self, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in WATCHED:
                signal.signal(number, signal.SIG_DFL)
            let_in()
            ours.close()
            os.close(self._wake)
            os.close(self._wake_write)
            for helper in self._helpers:
                helper.close()  # they come again through the control socket
            self._child(theirs)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:  # noqa: BLE001 - a forked child must not return into its parent
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _again(self, name: str) -> None:
        backoff = self._backoff.setdefault(name, Backoff())
        self._due[name] = time.monotonic() + backoff.next()

    # --- one turn of the loop ----------------------------------------------------------------

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._control is not None:
            poll.register(self._control, select.POLLIN)
        for helper in self._helpers:
            # A first one that closes its socket ends in a moment, and its exit code says why.
            if helper.sock is not None and (self._ready or isinstance(helper, Lasting)):
                poll.register(helper.sock, select.POLLRDHUP)  # the other end is closed
        ready = {number for number, _ in poll.poll(self._timeout())}
        if self._control is not None and self._control.fileno() in ready:
            self._listen_to_child()
        for helper in self._helpers:
            if helper.sock is not None and helper.sock.fileno() in ready:
                self._helper_died(helper)
        if self._wake in ready:
            self._take_signals()
        self._reap()
        self._start_what_is_due()

    def _timeout(self) -> float | None:
        moments = list(self._due.values())
        if self._stopping_until:
            moments.append(self._stopping_until)
        if not moments:
            return None  # sleep until something happens
        return max(0.0, min(moments) - time.monotonic()) * 1000 + 1

    def _listen_to_child(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(4096)
        except (BlockingIOError, ConnectionResetError):
            return  # a reset is told once; what was sent before it comes after it
        except OSError:
            message = b""
        if message == READY:
            self._ready = True
            self._on_ready()
        elif message.startswith(FAILED):
            reason = message.removeprefix(FAILED).decode("utf-8", "replace")
            say(f"failed to start daemon: {reason}")  # dockerd's words
        elif not message:
            self._control.close()
            self._control = None

    def _helper_died(self, helper: Helper) -> None:
        helper.close()
        if not self._stopping_until:
            say(f"the {helper.name} helper is gone; starting it again")
            self._again(helper.name)

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._wake, 4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop()
                elif number == signal.SIGHUP:
                    self._reload()
                elif number in (signal.SIGUSR1, signal.SIGQUIT):
                    self._signal_child(signal.SIGUSR1)

    def _reload(self) -> None:
        """Read the configuration as root, who may, and pass it on."""
        if self._control is not None and (content := self._read_reload()):
            with contextlib.suppress(OSError):
                self._control.send(RELOAD + content)

    def _stop(self) -> None:
        again = bool(self._stopping_until)
        self._due.clear()
        if not again:
            self._stopping_until = time.monotonic() + self._stop_seconds + KILL_SECONDS
        self._signal_child(signal.SIGKILL if again else signal.SIGTERM)

    def _signal_child(self, number: int) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _reap(self) -> None:
        if self._stopping_until and time.monotonic() > self._stopping_until:
            self._signal_child(signal.SIGKILL)
            self._stopping_until = time.monotonic() + KILL_SECONDS
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except OSError as error:
                if error.errno != errno.ECHILD:
                    raise
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._child_died(status)
            elif os.waitstatus_to_exitcode(status) == HOPELESS and not self._ready:
                self._give_up(pid)
            else:
                self._note_end(pid)

    def _note_end(self, pid: int) -> None:
        """Replace a helper that has ended, whoever may still hold the other end of its socket."""
        for helper in self._helpers:
            if helper.pid == pid and helper.sock and not isinstance(helper, Lasting):
                self._helper_died(helper)

    def _give_up(self, pid: int) -> None:
        """End at once: a helper has said why nothing can work."""
        if pid in [helper.pid for helper in self._helpers]:
            self._exit_code = 1
            self._due.clear()
            self._stopping_until = time.monotonic()
            self._signal_child(signal.SIGKILL)

    def _child_died(self, status: int) -> None:
        self._pid = 0
        for _ in range(LAST_WORDS):
            if self._control is not None:
                self._listen_to_child()
        if self._control is not None:
            self._control.close()
            self._control = None
        code = os.waitstatus_to_exitcode(status)
        if self._stopping_until:
            return
        if not self._ready:  # it never worked: a restart would not help
            self._exit_code = code if code > 0 else 1
            self._stopping_until = time.monotonic()
            return
        say(f"the daemon ended ({code}); starting it again")
        self._again("daemon")

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, moment in self._due.items() if moment <= now]:
            del self._due[name]
            if name == "daemon":
                self._fork()
            for helper in self._helpers:
                if helper.name == name:
                    self._start(helper)
