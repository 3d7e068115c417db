"""Finding a task by what the daemon calls it."""

from __future__ import annotations

from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.runtime.spawning.tasks import Key, Task
from sampan.spec.names import ID, short_id

Tasks = dict[Key, Task]


def container_id(id: str) -> str:
    """Return an id that may become part of a path; raises InvalidArgument for another."""
    if not ID.fullmatch(id):
        raise InvalidArgument(f"invalid id: {id[:80]!r}")
    return id


def told(key: Key) -> str:
    """Return how a message calls a task."""
    return f"exec {short_id(key[1])}" if key[1] else f"container {key[0]}"


def known(tasks: Tasks, key: Key) -> Task:
    """Return a task that has not been forgotten; raises NotFound."""
    task = tasks.get(key)
    if task is None:
        what = "exec instance" if key[1] else "container"
        raise NotFound(f"No such {what}: {key[1] or key[0]}")
    return task


def running(tasks: Tasks, key: Key) -> Task:
    """Return a task that has not ended; raises NotFound, Conflict."""
    task = known(tasks, key)
    if task.ended:
        raise Conflict(f"{told(key)} is not running")
    return task
