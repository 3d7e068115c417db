"""Being attached to a container while it runs: `run`, `start -a`, `attach`."""

from __future__ import annotations

import os

from sampan.cli.containers.streams import Session, Signals, resizer
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.invocation import Invocation
    from sampan.client.connection import Connection
    from sampan.client.containers import Waiting

DETACHED = "read escape sequence"


def check_terminal(stdin: bool, tty: bool) -> None:
    """Refuse to attach a terminal of the container to an input that is none."""
    if stdin and tty and not os.isatty(0):
        raise Exit(1, "the input device is not a TTY")


def open_session(
    cli: Invocation,
    connection: Connection,
    signals: Signals,
    streams: tuple[bool, bool, bool],
    tty: bool,
    keys: str,
) -> Session:
    """Return a session between a connection and our stdin, stdout, stderr (those of `streams`)."""
    from sampan.cli.display.terminal import detach_keys

    stdin, stdout, stderr = streams
    return Session(
        connection,
        signals,
        cli.out if stdout else None,
        (cli.out if tty else cli.err) if stderr else None,
        0 if stdin else None,
        tty,
        detach_keys(keys),
    )


class Attachment:
    """The streams of one container, the signals for it, and its exit status."""

    def __init__(
        self,
        cli: Invocation,
        container: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
        keys: str,
        proxy: bool,
    ) -> None:
        """`stdin`, `stdout`, `stderr`: which streams; `proxy`: pass our signals on."""
        self._cli = cli
        self._container = container
        self._streams = (stdin, stdout, stderr)
        self._tty = tty
        self._keys = keys
        self._proxy = proxy

    def start_and_wait(self, condition: str, wait_for_removal: bool) -> int:
        """Attach, start the container, copy its streams; return its exit status.

        Attached and waited for before the start: nothing that it prints is missed, and no end of a
        container that lives only for a moment. Raises what the start raises.
        """
        stdin, stdout, stderr = self._streams
        containers = self._cli.client.containers
        with self._signals() as signals:
            connection = containers.attach(
                self._container, stdin, stdout, stderr, detach_keys=self._keys
            )
            try:
                waiting = containers.wait(self._container, condition)
                self._start(waiting, wait_for_removal)
                if self._resize:
                    self._resize()
                session = open_session(
                    self._cli, connection, signals, self._streams, self._tty, self._keys
                )
                if session.run(until=waiting.fileno()):
                    return 0  # the user left; the container goes on
            finally:
                connection.close()
        return self._status(waiting)

    def _start(self, waiting: Waiting, wait_for_removal: bool) -> None:
        try:
            self._cli.client.containers.start(self._container)
        except SampanError:
            if wait_for_removal:
                waiting.result()
            else:
                waiting.close()
            raise

    def attach(self) -> int:
        """Take part in a running container; return its exit status once it has ended."""
        stdin, stdout, stderr = self._streams
        containers = self._cli.client.containers
        waiting = containers.wait(self._container)
        with self._signals() as signals:
            connection = containers.attach(
                self._container, stdin, stdout, stderr, detach_keys=self._keys
            )
            try:
                self._redraw()
                session = open_session(
                    self._cli, connection, signals, self._streams, self._tty, self._keys
                )
                if session.run():
                    raise Exit(1, DETACHED)
            finally:
                connection.close()
        return self._status(waiting)

    def _redraw(self) -> None:
        """Make a full-screen program draw itself again: its terminal changes size, and back."""
        if not self._resize:
            return
        from sampan.cli.display.terminal import size_of

        height, width = size_of(1)
        larger = resizer(
            lambda *_: self._cli.client.containers.resize(self._container, height + 1, width + 1)
        )
        larger()
        self._resize()

    @property
    def _resize(self) -> Callable[[], None] | None:
        if not (self._tty and self._cli.out.is_terminal()):
            return None
        containers = self._cli.client.containers
        return resizer(lambda height, width: containers.resize(self._container, height, width))

    def _signals(self) -> Signals:
        proxy = self._kill if self._proxy else None
        return Signals(proxy, self._resize)

    def _kill(self, name: str) -> None:
        try:
            self._cli.client.containers.kill(self._container, name)
        except SampanError:
            pass  # it has ended meanwhile

    def _status(self, waiting: Waiting) -> int:
        result = waiting.result()
        message = (result.get("Error") or {}).get("Message", "")
        if message:
            self._cli.err.line("Error waiting for container:", message)
            return 125
        return int(result["StatusCode"])
