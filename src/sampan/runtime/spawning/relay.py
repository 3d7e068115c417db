"""The streams of tasks: from their pipes or terminal to log and clients, from clients to stdin.

A stream is read only while every client has taken what was read before, so a slow client slows the
program down (as with Docker) and no buffer grows. One read of each ready stream per turn of the
loop: a flood delays nobody.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
from collections.abc import Callable

from sampan.errors import SampanError
from sampan.logs.files import LogWriter
from sampan.logs.stream import STDERR, STDOUT
from sampan.runtime.spawning.clients import Client
from sampan.runtime.spawning.journal import CHUNK, NO_SLOT, Journal
from sampan.runtime.spawning.loop import Loop
from sampan.runtime.spawning.messages import Drained, Message, StdinClosed
from sampan.runtime.spawning.tasks import Key, Task, TaskRecord

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for descendants that hold the streams of an ended task
PIPE_BYTES = 256 << 10  # of a pipe whose writer has filled the kernel's default
FLOOD = 60 << 10
_AT_EXIT = 64  # reads in one go from a task that has ended


class Output:
    """One stream that comes out of a task."""

    __slots__ = ("descriptor", "enlarged", "name", "number", "rest", "slot")

    def __init__(self, descriptor: int, number: int, slot: int) -> None:
        self.descriptor, self.number, self.slot = descriptor, number, slot
        self.name = "stderr" if number == STDERR else "stdout"
        self.rest = b""  # after the last newline, not in the log yet
        self.enlarged = False


class Relay:
    """All hubs of the keeper."""

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        tell: Callable[[Message], None],
        open_log: Callable[[TaskRecord], LogWriter | None],
    ) -> None:
        self.loop, self.journal, self.tell, self.open_log = loop, journal, tell, open_log
        self.hubs: dict[Key, Hub] = {}
        self.clients: set[Client] = set()  # those of ended tasks too

    def hub(self, key: Key) -> Hub:
        """Return the hub of a task, made if it is the first mention of the task."""
        if key not in self.hubs:
            self.hubs[key] = Hub(self, key)
        return self.hubs[key]

    def attach(self, key: Key, sock: socket.socket, wants: frozenset[int], *, stdin: bool) -> None:
        """Connect a client."""
        self.hub(key).attach(sock, wants, stdin=stdin)

    def remove(self, key: Key) -> None:
        """Let the clients go and forget the hub."""
        if hub := self.hubs.pop(key, None):
            hub.close()

    def abandon(self) -> None:
        """Close what only a keeper holds, in a process that is not the keeper any more."""
        for client in self.clients:
            client.abandon()
        for hub in self.hubs.values():
            if hub.log:
                hub.log.close()
        self.hubs, self.clients = {}, set()


class Hub:
    """Connects one task with its log and its clients."""

    __slots__ = (
        "_closing",
        "_ended",
        "_input",
        "_overdue",
        "_paused",
        "clients",
        "key",
        "log",
        "outputs",
        "relay",
        "task",
    )

    def __init__(self, relay: Relay, key: Key) -> None:
        self.relay, self.key = relay, key
        self.task: Task | None = None
        self.log: LogWriter | None = None
        self.outputs: list[Output] = []
        self.clients: list[Client] = []
        self._input = b""  # for stdin, which is full
        self._closing = self._ended = self._overdue = self._paused = False

    @property
    def started(self) -> bool:
        """Tell whether the streams are there."""
        return self.task is not None

    @property
    def takes_input(self) -> bool:
        """Tell whether clients' input is wanted now (or may be read to be thrown away)."""
        return self.task is not None and not self._input

    # --- life ----------------------------------------------------------------------------------

    def start(self, task: Task, *, resumed: bool = False) -> None:
        """Connect the streams of a task that runs."""
        self.task = task
        record = task.record
        try:
            self.log = self.relay.open_log(record)
        except (OSError, SampanError) as error:
            log.warning("container %s runs without a log: %s", record.id[:12], error)
        for number, descriptor in (
            (STDOUT, task.master if record.streams.terminal else task.stdout),
            (STDERR, task.stderr),
        ):
            if descriptor >= 0:
                slot = record.slot + number - STDOUT if record.slot >= 0 else NO_SLOT
                output = Output(descriptor, number, slot)
                if resumed:
                    output.rest = self.relay.journal.rest(slot)
                self.outputs.append(output)
                self._listen(output)
        for client in self.clients:
            client.update()

    def end(self) -> None:
        """The process has ended: read what it left behind, then let go."""
        if self._ended:
            return
        self._ended = True
        self._resume()
        for output in list(self.outputs):
            for _ in range(_AT_EXIT):
                if output not in self.outputs or not self._pump(output):
                    break
        self._finish()
        if self.key in self.relay.hubs:
            self.relay.loop.later(PATIENCE, self._give_up)

    def close(self) -> None:
        """Let clients and log go now; streams that are still open are read and thrown away."""
        for output in self.outputs:
            self._last_line(output)
        for client in self.clients:
            client.finish()
        self.clients = []
        if self.log:
            self.log.close()
        self.log = None
        self._release()

    # --- output --------------------------------------------------------------------------------

    def _listen(self, output: Output) -> None:
        events = select.EPOLLIN if not self._paused else 0
        task = self.task
        if self._input and task and output.descriptor == task.master:
            events |= select.EPOLLOUT
        if events:
            self.relay.loop.watch(output.descriptor, events, lambda got: self._ready(output, got))
        else:
            self.relay.loop.forget(output.descriptor)

    def _ready(self, output: Output, events: int) -> None:
        if events & select.EPOLLOUT and self._input:
            self._write_input()
        if events & ~select.EPOLLOUT and not self._paused:
            self._pump(output)

    def _pump(self, output: Output) -> bool:
        """Move one chunk; return False if there was none."""
        writer, journal = self.log, self.relay.journal
        try:
            data = journal.read(
                output.descriptor,
                output.slot if writer else NO_SLOT,
                writer.size if writer else 0,
            )
        except BlockingIOError:
            return False
        except OSError:  # EIO: the other side of a terminal is closed
            data = b""
        if not data:
            self._close_output(output)
            return False
        self.deliver(output, data)
        if len(data) >= FLOOD and not output.enlarged:
            output.enlarged = True
            self._enlarge(output)
        return True

    def deliver(self, output: Output, data: bytes) -> None:
        """Bring what was read to log and clients."""
        if self.log:
            rest = self.log.write(output.name, output.rest + data if output.rest else data)
            if rest or output.rest:
                self.relay.journal.keep(output.slot, rest)
                output.rest = rest
        if self.clients:
            framed = self.task is not None and not self.task.record.streams.terminal
            for client in self.clients:
                client.offer(output.number, data, framed=framed)
            self._pause_if_slow()
        self.relay.journal.done()

    def _enlarge(self, output: Output) -> None:
        try:
            fcntl.fcntl(output.descriptor, fcntl.F_SETPIPE_SZ, max(PIPE_BYTES, CHUNK))
        except OSError:
            pass  # a terminal, or the user's share of pipe memory is used up

    def _pause_if_slow(self) -> None:
        if not self._ended and not self._paused and any(c.pending for c in self.clients):
            self._paused = True
            for output in self.outputs:
                self._listen(output)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            for output in self.outputs:
                self._listen(output)

    def _close_output(self, output: Output) -> None:
        self._last_line(output)
        self.relay.loop.forget(output.descriptor)
        os.close(output.descriptor)
        self.outputs.remove(output)
        task = self.task
        if task:
            for name in ("stdout", "stderr", "master"):
                if getattr(task, name) == output.descriptor:
                    setattr(task, name, -1)
        if self._ended:
            self._finish()

    def _last_line(self, output: Output) -> None:
        if self.log:
            self.log.finish(output.name, output.rest)
        output.rest = b""
        self.relay.journal.forget(output.slot)
        output.slot = NO_SLOT

    # --- input ---------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Write what a client sent to stdin; it is thrown away if nobody listens."""
        self._input += data
        self._write_input()
        if self._input:
            for client in self.clients:
                client.update()

    def input_ended(self, client: Client) -> None:
        """A client has closed its sending side. Source: moby daemon/internal/stream/attach.go."""
        task = self.task
        if task is None or not task.record.streams.open_stdin:
            return
        if task.record.streams.stdin_once and not task.record.streams.terminal:
            self._closing = True
            self._close_input()
        else:
            self.drop(client)
            client.finish()

    def _write_input(self) -> None:
        task = self.task
        target = -1 if task is None else max(task.stdin, task.master)
        written = len(self._input)
        if target >= 0:
            try:
                written = os.write(target, self._input)
            except BlockingIOError:
                written = 0
            except OSError:  # the program has closed its stdin
                self._closing = True
        was_full, self._input = bool(self._input), self._input[written:]
        self._watch_input(target)
        if was_full and not self._input:
            self._close_input()
            for client in self.clients:
                client.update()

    def _watch_input(self, target: int) -> None:
        if target < 0:
            return
        if self.task and target == self.task.master:
            for output in self.outputs:
                self._listen(output)
        elif self._input:
            self.relay.loop.watch(target, select.EPOLLOUT, lambda _: self._write_input())
        else:
            self.relay.loop.forget(target)

    def _close_input(self) -> None:
        task = self.task
        if self._closing and not self._input and task and task.stdin >= 0:
            self.relay.loop.forget(task.stdin)
            os.close(task.stdin)
            task.stdin = -1
            self.relay.tell(StdinClosed(id=self.key[0], exec_id=self.key[1]))

    # --- clients -------------------------------------------------------------------------------

    def attach(self, sock: socket.socket, wants: frozenset[int], *, stdin: bool) -> None:
        """Add a client; it sees what is written from now on."""
        self.clients.append(
            Client(self.relay.loop, self, self.relay.clients, sock, wants, stdin=stdin)
        )

    def drop(self, client: Client) -> None:
        """Forget a client that has gone."""
        if client in self.clients:
            self.clients.remove(client)
        if self.task is None and not self.clients:
            self.relay.hubs.pop(self.key, None)
        self.flushed()

    def flushed(self) -> None:
        """A client has taken what it was given, or is gone."""
        if any(client.pending for client in self.clients):
            return
        self._resume()
        if self._ended:
            self._finish()

    # --- the end -------------------------------------------------------------------------------

    def _give_up(self) -> None:
        self._overdue = True
        self._finish()

    def _finish(self) -> None:
        """Say that all is delivered, if it is or if the time is over."""
        if self.relay.hubs.get(self.key) is not self:
            return
        if not self._overdue and (self.outputs or any(c.pending for c in self.clients)):
            return
        del self.relay.hubs[self.key]
        self.close()
        if self.task:
            self.task.drained = True
        self.relay.tell(Drained(id=self.key[0], exec_id=self.key[1]))

    def _release(self) -> None:
        """Close the streams of the task, but for outputs that descendants still hold.

        Those are read until their end: to close them would kill a daemon that was started by an
        exec as soon as it writes.
        """
        task = self.task
        if task is None:
            return
        if task.stdin >= 0:
            self.relay.loop.forget(task.stdin)
        held = {output.descriptor for output in self.outputs}
        for name in ("stdout", "stderr", "master"):
            if getattr(task, name) in held:
                setattr(task, name, -1)
        task.close_streams()
        if not self._paused:
            return
        self._paused = False
        for output in self.outputs:
            self._listen(output)
