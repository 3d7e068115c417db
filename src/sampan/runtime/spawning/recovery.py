"""Finding the tasks of a spawner of which both halves are gone.

The state files name the processes; what still runs is found again by pid and start time, and its
pipes through /proc/PID/fd: a pipe can be opened again as long as the program has its end.
"""

from __future__ import annotations

import logging
import os
import time

from sampan.errors import SampanError
from sampan.linux.process import start_time
from sampan.runtime.spawning.removals import clear
from sampan.runtime.spawning.tasks import Task, TaskRecord, boot_id
from sampan.runtime.spawning.world import World

log = logging.getLogger(__name__)

REBOOTED = "The machine was restarted while this ran; its exit code is not known."
ENDED = "The spawner was not running when this ended; its exit code is not known."
TERMINAL = "The spawner was restarted; the terminal of this process is lost."
TAKEN_UP = "The spawner was restarted; attached clients of this process were disconnected."
STREAMS = "The spawner was restarted; a stream of this process could not be found again."
STDIN = "The spawner was restarted; the process may have seen the end of its input."


def recover(world: World) -> None:
    """Fill the table of a new spawner from the state files, and clear interrupted starts."""
    for container, path in list(world.state.unsettled()):
        if (world.run_root / "runtime" / container / "state.json").exists():
            clear(path)
            world.state.settle(container)  # what is known of it is told as of any that ended
        elif clear(path):
            world.state.remove((container, ""))
        else:
            log.warning("cgroup %s is still busy", path)  # the forker goes on
    for record in world.state.load():
        task = _find(record)
        if task.ended and record.slot >= 0:
            _flush(world, record)
        world.tasks[record.key] = task
        world.state.save_if_possible(task.record)
        if task.record.lost:
            log.warning("container %s: %s", record.id[:12], task.record.lost)
    if not world.running():
        world.journal.clear()


def _flush(world: World, record: TaskRecord) -> None:
    """Log what the spawner before had read of a task that is over."""
    left = world.journal.unfinished()
    try:
        writer = world.open_log(record)
    except (OSError, SampanError) as error:
        log.warning("the log of container %s cannot be opened: %s", record.id[:12], error)
        return
    for slot, name in ((record.slot, "stdout"), (record.slot + 1, "stderr")):
        rest = world.journal.rest(slot)
        if writer and left and left.slot == slot:
            writer.truncate(left.log_size)
            rest = writer.write(name, rest + left.data)
            world.journal.resume()
        if writer:
            writer.finish(name, rest)
        world.journal.forget(slot)
    if writer:
        writer.close()
    record.slot = -1


def _find(record: TaskRecord) -> Task:
    if record.finished_at:
        return Task(record, drained=True)
    if record.boot_id != boot_id():
        return _gone(record, REBOOTED)
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return _gone(record, ENDED)
    try:
        same = start_time(record.pid) == record.start_time
    except FileNotFoundError:
        same = False
    if not same:
        os.close(pidfd)
        return _gone(record, ENDED)
    record.adopted = True
    task = Task(record, pidfd=pidfd)
    _reopen(task)
    return task


def _gone(record: TaskRecord, lost: str) -> Task:
    record.finished_at = time.time_ns()
    record.frozen = False
    record.lost = lost
    return Task(record, drained=True)


def _reopen(task: Task) -> None:
    record = task.record
    if record.streams.terminal:
        record.lost = TERMINAL
        return
    stdin, stdout, stderr = record.pipes
    flags = os.O_NONBLOCK | os.O_CLOEXEC
    for name, number, inode, mode in (
        ("stdin", 0, stdin, os.O_WRONLY),
        ("stdout", 1, stdout, os.O_RDONLY),
        ("stderr", 2, stderr, os.O_RDONLY),
    ):
        if not inode:
            continue
        try:
            descriptor = os.open(f"/proc/{record.pid}/fd/{number}", mode | flags)
        except OSError:
            descriptor = -1
        if descriptor >= 0 and os.fstat(descriptor).st_ino != inode:
            os.close(descriptor)
            descriptor = -1
        setattr(task, name, descriptor)
        if descriptor < 0 and number:
            record.lost = STREAMS
    if not record.lost:
        record.lost = STDIN if stdin else TAKEN_UP
