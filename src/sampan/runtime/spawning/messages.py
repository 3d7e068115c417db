"""What keeper and forker tell each other: packets of sampan.rpc on a socketpair, unanswered."""

from __future__ import annotations

import logging
import socket

import msgspec

from sampan.rpc.contract import Fd, pack, receive, send, unpack
from sampan.runtime.spawning.tasks import Task, TaskRecord

log = logging.getLogger(__name__)


class Added(msgspec.Struct, tag="added", kw_only=True):
    """Forker: a task runs; here are its descriptors."""

    record: TaskRecord
    pidfd: Fd
    stdin: Fd | None = None
    stdout: Fd | None = None
    stderr: Fd | None = None
    master: Fd | None = None

    def task(self) -> Task:
        """Return the task; its descriptors change hands."""
        return Task(
            self.record,
            pidfd=self.pidfd.detach(),
            stdin=_number(self.stdin),
            stdout=_number(self.stdout),
            stderr=_number(self.stderr),
            master=_number(self.master),
        )


class Attached(msgspec.Struct, tag="attached", kw_only=True):
    """Forker: a client wants the streams of a task that may not have started yet."""

    id: str
    exec_id: str
    sock: Fd
    stdin: bool
    stdout: bool
    stderr: bool


class Ended(msgspec.Struct, tag="ended", kw_only=True):
    """Whoever is the parent: the process has ended."""

    record: TaskRecord


class Changed(msgspec.Struct, tag="changed", kw_only=True):
    """Forker: the record of a running task is another now."""

    record: TaskRecord


class Removed(msgspec.Struct, tag="removed", kw_only=True):
    """Forker: the task is forgotten, or its start failed; its clients are let go."""

    id: str
    exec_id: str


class Drained(msgspec.Struct, tag="drained", kw_only=True):
    """Keeper: the last output of an ended task is where it belongs."""

    id: str
    exec_id: str


class StdinClosed(msgspec.Struct, tag="stdin_closed", kw_only=True):
    """Keeper: the process shall see the end of its input; the duplicate must go too."""

    id: str
    exec_id: str


class Stop(msgspec.Struct, tag="stop", kw_only=True):
    """Keeper: end yourself, nothing runs."""


class Lost(msgspec.Struct, tag="lost", kw_only=True):
    """Nobody: stands for a message that could not be received."""


Message = Added | Attached | Ended | Changed | Removed | Drained | StdinClosed | Stop | Lost


def added(task: Task) -> Added:
    """Return the message that tells of `task`; the descriptors are lent to it."""
    return Added(
        record=task.record,
        pidfd=Fd(task.pidfd),
        stdin=_fd(task.stdin),
        stdout=_fd(task.stdout),
        stderr=_fd(task.stderr),
        master=_fd(task.master),
    )


def tell(sock: socket.socket, message: Message) -> None:
    """Send one message; raises OSError (BlockingIOError if the other half is slow)."""
    body, fds = pack(message)
    send(sock, body, fds)


def hear(sock: socket.socket) -> Message | None:
    """Return the next message; None when the other half is gone."""
    try:
        body, fds = receive(sock)
    except ConnectionError:
        return None
    if not body:
        return None
    try:
        message: Message = unpack(Message, body, fds)
    except msgspec.DecodeError:
        # The packet was cut: this process has no descriptor left for what came with it.
        log.error("a message of the other half is lost: out of descriptors")
        for fd in fds:
            fd.close()
        return Lost()
    return message


def _fd(number: int) -> Fd | None:
    return Fd(number) if number >= 0 else None


def _number(fd: Fd | None) -> int:
    return fd.detach() if fd else -1
