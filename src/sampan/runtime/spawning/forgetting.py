"""Forgetting tasks that have ended: with a container its execs, its files of state, its cgroup."""

from __future__ import annotations

from sampan.rpc import Pending
from sampan.runtime.spawning.children import Children
from sampan.runtime.spawning.messages import Removed
from sampan.runtime.spawning.removals import Removals
from sampan.runtime.spawning.tasks import Key


class Forgetting:
    """Takes ended tasks out of the tables of both halves, and off the disk."""

    def __init__(self, children: Children, removals: Removals) -> None:
        self._children, self._world, self._removals = children, children.world, removals

    def drop(self, key: Key, answer: Pending[None] | None = None) -> None:
        """Forget a task that has ended; answers when its cgroup is gone."""
        container, exec_id = key
        keys = [key] if exec_id else [each for each in self._world.tasks if each[0] == container]
        cgroup = "" if exec_id else self._world.tasks[key].record.cgroup
        if cgroup:
            # First: a crash after this finds the cgroup gone, or a note that it has to go.
            self._removals.remove(container, cgroup, answer)
        else:
            self._world.state.remove(key)
        for each in keys:
            task = self._children.forget(each)
            if task is None:
                continue
            self._children.tell(Removed(id=each[0], exec_id=each[1]))
            for waiter in task.waiters:
                waiter.resolve(task.status())
            task.close()
        if answer and not cgroup:
            answer.resolve(None)
