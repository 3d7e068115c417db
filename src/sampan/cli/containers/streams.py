"""A session with a container: copies its streams and ours until one side ends.

One loop over poll(2), no threads: stdin, the connection, and the signals of this process, which are
sent on to the container or tell of a new window size.
"""

from __future__ import annotations

import os
import select

from sampan.cli.display.terminal import DetachScanner, RawTerminal, size_of
from sampan.cli.invocation import Exit
from sampan.client.frames import STDERR, Frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType

    from sampan.cli.display.output import Output
    from sampan.client.connection import Connection
else:
    import _signal as signal  # plain numbers; `signal` makes an enum of each, in 3 ms

READ_BYTES = 32 << 10
# Those that mean something to this process, not to the container; SIGURG and SIGTTIN are noise.
NOT_PROXIED = {
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
# The kernel raises these for faults of this process: catching them would loop for ever.
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}


class Signals:
    """Turns the signals of this process into bytes on a descriptor, as a context manager."""

    def __init__(
        self, proxy: Callable[[str], None] | None, resize: Callable[[], None] | None
    ) -> None:
        """`proxy` gets the name of each signal for the container; None leaves signals alone."""
        self._proxy = proxy
        self._resize = resize
        self._read = self._write = -1
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        wanted: set[int] = set()
        if self._proxy:
            wanted.update(signal.valid_signals() - NOT_PROXIED - FAULTS)
        if self._resize:
            wanted.add(signal.SIGWINCH)
        for number in wanted:
            self._install(number, _noted)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if number not in wanted:
                self._install(number, _end)
        return self

    def _install(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        try:
            self._previous[number] = signal.signal(number, handler)
        except (OSError, ValueError):
            pass  # one that the C library keeps for itself

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def handle(self) -> None:
        """Act on the signals that came."""
        try:
            numbers = os.read(self._read, READ_BYTES)
        except BlockingIOError:
            return
        for number in numbers:
            if number == signal.SIGWINCH:
                if self._resize:
                    self._resize()
            elif self._proxy and number not in NOT_PROXIED:
                self._proxy(_name(number))


def _noted(number: int, frame: FrameType | None) -> None:
    """The byte on the wake-up descriptor is what counts."""


def _end(number: int, frame: FrameType | None) -> None:
    """End the command in good order, so that the terminal is set back."""
    raise Exit(128 + number)


def _name(number: int) -> str:
    from signal import Signals

    try:
        return Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


class Session:
    """Copies until the connection ends (`run` returns False) or the user detaches (True)."""

    def __init__(
        self,
        connection: Connection,
        signals: Signals,
        out: Output | None,
        err: Output | None,
        stdin: int | None = None,
        tty: bool = False,
        detach_keys: bytes = b"",
    ) -> None:
        """`tty`: the stream has no frames. `detach_keys` count only with a terminal and stdin."""
        self._connection = connection
        self._signals = signals
        self._out, self._err = out, err
        self._stdin = stdin
        self._frames = None if tty else Frames()
        self._scanner = DetachScanner(detach_keys) if tty and stdin is not None else None
        self._raw = RawTerminal(stdin) if tty and stdin is not None else None
        self._pending = b""  # typed, not yet sent
        self._detached = False
        self._input_done = stdin is None

    def run(self, until: int = -1) -> bool:
        """Copy; without outputs, end when the descriptor `until` is readable."""
        self._connection.sock.setblocking(False)
        if self._raw is None:
            return self._loop(until)
        with self._raw:
            return self._loop(until)

    def _loop(self, until: int) -> bool:
        poll = select.poll()
        socket_fd = self._connection.sock.fileno()
        poll.register(self._signals.fileno(), select.POLLIN)
        if until >= 0 and self._out is None and self._err is None:
            poll.register(until, select.POLLIN)
        watching_stdin = False
        if self._input_done:
            self._connection.close_write()
        while not self._detached:
            want_stdin = not self._input_done and not self._pending
            if want_stdin != watching_stdin and self._stdin is not None:
                if want_stdin:
                    poll.register(self._stdin, select.POLLIN)
                else:
                    poll.unregister(self._stdin)
                watching_stdin = want_stdin
            poll.register(socket_fd, select.POLLIN | (select.POLLOUT if self._pending else 0))
            ready = {socket_fd} if self._connection.has_buffered() else None
            for descriptor, events in poll.poll(0 if ready else None):
                if descriptor == self._signals.fileno():
                    self._signals.handle()
                elif descriptor == until:
                    return False
                elif descriptor == self._stdin and descriptor != socket_fd:
                    self._read_stdin()
                elif events & select.POLLOUT:
                    self._send_pending()
                if descriptor == socket_fd and events & ~select.POLLOUT:
                    ready = {socket_fd}
            if ready and not self._read_connection():
                return False
        return True

    def _read_stdin(self) -> None:
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, READ_BYTES)
        except OSError:
            data = b""  # a terminal that hung up
        if not data:
            self._input_done = True
            self._connection.close_write()
            return
        if self._scanner:
            data, self._detached = self._scanner.feed(data)
        self._pending = data
        self._send_pending()

    def _send_pending(self) -> None:
        try:
            sent = self._connection.send_now(self._pending)
        except OSError:
            self._input_done, self._pending = True, b""  # nobody reads it: the process is gone
            return
        self._pending = self._pending[sent:]

    def _read_connection(self) -> bool:
        """Write out what came; False at the end of the stream."""
        try:
            data = self._connection.read_now()
        except ConnectionResetError:
            return False
        if data is None:
            return True
        if not data:
            return False
        if self._frames is None:
            _write(self._out or self._err, data)
        else:
            for stream, payload in self._frames.feed(data):
                _write(self._err if stream == STDERR else self._out, payload)
        return True


def _write(output: Output | None, data: bytes) -> None:
    if output is not None:
        output.write(data)
        output.flush()


def resizer(resize: Callable[[int, int], None], descriptor: int = 1) -> Callable[[], None]:
    """Return a function that tells the daemon the size of the terminal; refusals do no harm."""

    def tell() -> None:
        from sampan.errors import SampanError

        height, width = size_of(descriptor)
        if height or width:
            try:
                resize(height, width)
            except SampanError:
                pass  # the process has ended meanwhile

    return tell
