"""What both halves of the spawner know of every task, and its copy on disk.

A task is the first process of a container, or one exec. Keeper and forker each hold the whole
table with duplicates of all descriptors, so that either can be rebuilt from the other; the state
files serve when both are gone.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from sampan.rpc import Pending
from sampan.runtime.spawner import Streams, TaskStatus

log = logging.getLogger(__name__)

Key = tuple[str, str]  # container id, exec id ("" for the container itself)


class TaskRecord(msgspec.Struct, kw_only=True):
    """What is written to disk and sent between the halves."""

    id: str
    exec_id: str = ""
    pid: int
    start_time: int  # clock ticks after boot: names the process together with pid and boot_id
    boot_id: str
    started_at: int  # nanoseconds since the epoch
    streams: Streams
    cgroup: str = ""
    seccomp: str = ""  # digest of the container's filter, for execs
    shares_pids: bool = False  # no pid namespace of its own: its children can outlive it
    pipes: tuple[int, int, int] = (0, 0, 0)  # inodes of stdin, stdout, stderr; 0 for no pipe
    slot: int = -1  # place in the journal
    adopted: bool = False  # found again after both halves were gone: nobody's child
    frozen: bool = False
    finished_at: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    lost: str = ""

    @property
    def key(self) -> Key:
        """Return what names the task."""
        return self.id, self.exec_id


@dataclass(slots=True)
class Task:
    """A record with the descriptors behind it; -1 is none."""

    record: TaskRecord
    pidfd: int = -1
    stdin: int = -1  # write end of the pipe
    stdout: int = -1  # read ends
    stderr: int = -1
    master: int = -1  # of the terminal, instead of the three
    drained: bool = False  # the last output is where it belongs
    waiters: list[Pending[TaskStatus]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Tell whether the process has ended."""
        return self.record.finished_at != 0

    def status(self) -> TaskStatus:
        """Return what the contract tells of a task."""
        record = self.record
        state: Literal["running", "paused", "stopped"] = "running"
        if self.ended or record.frozen:
            state = "stopped" if self.ended else "paused"
        return TaskStatus(
            id=record.id,
            exec_id=record.exec_id,
            state=state,
            pid=0 if self.ended else record.pid,
            started_at=record.started_at,
            cgroup=record.cgroup,
            finished_at=record.finished_at,
            exit_code=record.exit_code,
            oom_killed=record.oom_killed,
            lost=record.lost,
        )

    def close_streams(self) -> None:
        """Close all but the pidfd."""
        for name in ("stdin", "stdout", "stderr", "master"):
            if (descriptor := getattr(self, name)) >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def close(self) -> None:
        """Close every descriptor."""
        self.close_streams()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@functools.cache
def boot_id() -> str:
    """Return what names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class StateFiles:
    """One folder per container below `root`; every file is replaced atomically."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._encoder = msgspec.json.Encoder()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "seccomp").mkdir(mode=0o700, exist_ok=True)

    def save(self, record: TaskRecord) -> None:
        """Write the record; raises OSError."""
        folder = f"{self._root}/{record.id}"
        document = self._encoder.encode(record)
        name = _name(record.exec_id)
        try:
            _replace(folder, name, document)
        except FileNotFoundError:
            os.mkdir(folder, 0o700)
            _replace(folder, name, document)

    def save_if_possible(self, record: TaskRecord) -> None:
        """Write the record; a full disk costs only what a crash of both halves would need."""
        try:
            self.save(record)
        except OSError as error:
            log.warning("the state of %s is not saved: %s", record.id[:12], error)

    def remove(self, key: Key) -> None:
        """Remove one record; with the container's own, all of its execs."""
        container, exec_id = key
        if not exec_id:
            shutil.rmtree(self._root / container, ignore_errors=True)
            return
        try:
            os.unlink(self._root / container / _name(exec_id))
        except FileNotFoundError:
            pass

    def intend(self, container: str, cgroup: str) -> None:
        """Note that a start begins, so that a crash in the middle leaves nothing behind."""
        os.makedirs(f"{self._root}/{container}", 0o700, exist_ok=True)
        _replace(f"{self._root}/{container}", "starting", cgroup.encode())

    def leave(self, container: str, cgroup: str) -> None:
        """Note that nothing is left of a container but a cgroup that cannot be removed yet.

        It is told from then on as that of an interrupted start: both have to go.
        """
        self.intend(container, cgroup)
        for path in self._root.joinpath(container).glob("*.json"):
            path.unlink(missing_ok=True)

    def settle(self, container: str) -> None:
        """The start that was noted has succeeded."""
        os.unlink(f"{self._root}/{container}/starting")

    def unsettled(self) -> Iterator[tuple[str, str]]:
        """Yield container and cgroup of every start that a crash interrupted, and every `leave`."""
        for path in self._root.glob("*/starting"):
            yield path.parent.name, path.read_text()

    def load(self) -> Iterator[TaskRecord]:
        """Yield every record that can be read."""
        decoder = msgspec.json.Decoder(TaskRecord)
        for path in sorted(self._root.glob("*/*.json")):
            if path.parent.name == "seccomp":
                continue
            try:
                yield decoder.decode(path.read_bytes())
            except (msgspec.DecodeError, OSError):
                path.unlink(missing_ok=True)  # cut by a crash of the machine: it names nothing

    def save_seccomp(self, digest: str, document: bytes) -> None:
        """Keep the filter of a container for its execs; many containers share one file."""
        if not (self._root / "seccomp" / digest).exists():
            _replace(f"{self._root}/seccomp", digest, document)

    def load_seccomp(self, digest: str) -> bytes:
        """Return a filter that was saved."""
        return (self._root / "seccomp" / digest).read_bytes()


def _name(exec_id: str) -> str:
    return f"exec-{exec_id}.json" if exec_id else "state.json"


def _replace(folder: str, name: str, content: bytes) -> None:
    temporary = f"{folder}/.{name}.tmp"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    os.rename(temporary, f"{folder}/{name}")
