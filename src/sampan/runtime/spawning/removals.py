"""Cgroups of containers that are gone: removed however long something dies in them.

The kernel removes no cgroup in which a process is still dying, and an exec may enter that of a
container which has just ended. So one try is not enough, and nobody may stop trying: what is to
go is noted on disk until it is gone (`StateFiles.leave`), and whoever comes after a crash of the
forker, the keeper or both goes on (`resume`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.cgroups.processes import PATIENCE
from sampan.rpc import Pending
from sampan.runtime.spawning.tasks import StateFiles

log = logging.getLogger(__name__)

PAUSE: Final = 0.01  # seconds between two tries
LONG_PAUSE: Final = 1.0  # after PATIENCE: something hangs in the kernel

Later = Callable[[float, Callable[[], None]], None]


def clear(
    path: str,
    patience: float = PATIENCE,
    *,
    kill: bool = True,
    open: Callable[[str], Cgroup] = open_cgroup,
) -> bool:
    """Kill all that is in a cgroup, and remove it within `patience` seconds; tell if it is gone."""
    try:
        cgroup = open(path)
    except OSError:
        return True  # no path of a cgroup: nothing was ever made there
    try:
        if kill:
            with suppress(OSError):  # what counts is whether it can be removed
                cgroup.kill()
        cgroup.remove(patience)
    except OSError as error:
        # Where cgroups cannot be written, the kernel says so before it looks whether there is one.
        log.debug("cgroup %s: %s", path, error)
        return not cgroup.exists()
    return True


@dataclass(slots=True)
class _Removal:
    container: str
    path: str
    answers: list[Pending[None]] = field(default_factory=list)
    waited: float = 0.0  # seconds


class Removals:
    """The cgroups that are to go, one for each container at most."""

    def __init__(
        self,
        state: StateFiles,
        later: Later,
        owner: Callable[[str], str],
        open: Callable[[str], Cgroup] = open_cgroup,
    ) -> None:
        """`owner` tells which container runs, or is about to run, in a cgroup; "" if none does."""
        self._state, self._later, self._owner, self._open = state, later, owner, open
        self._pending: dict[str, _Removal] = {}  # by container

    def remove(self, container: str, path: str, answer: Pending[None] | None = None) -> None:
        """Remove a cgroup, and then what the state files have of its container.

        Answers when it is gone, or when it hangs: then it is tried again until it is gone.
        """
        removal = self._pending.get(container)
        is_new = removal is None
        if removal is None:
            removal = self._pending[container] = _Removal(container, path)
        if answer:
            removal.answers.append(answer)
        if is_new and not self._try(removal, kill=False):
            self._note(removal)
            self._try_again(removal)

    def answer_when_gone(self, container: str, answer: Pending[None]) -> None:
        """Answer when nothing of a container is to be removed any more."""
        if removal := self._pending.get(container):
            removal.answers.append(answer)
        else:
            answer.resolve(None)

    def begin_again(self, container: str) -> None:
        """Have a cgroup out of the way of a new start; waits for it as long as a start may."""
        if removal := self._pending.get(container):
            clear(removal.path, open=self._open)
            self._settle(removal)

    def resume(self) -> None:
        """Go on with what was to be removed when the process, or the one before, changed roles."""
        for container, path in list(self._state.unsettled()):
            if container not in self._pending:
                self._pending[container] = _Removal(container, path)
        for removal in list(self._pending.values()):
            self._try_again(removal)

    def finish(self) -> None:
        """Remove all before the spawner ends; what hangs is left to the next one."""
        for removal in list(self._pending.values()):
            if clear(removal.path, open=self._open):
                self._gone(removal)
            else:
                log.warning("cgroup %s stays until the next start", removal.path)

    # --- inside --------------------------------------------------------------------------------

    def _try_again(self, removal: _Removal) -> None:
        """Kill and remove, again and again."""
        if self._pending.get(removal.container) is not removal:
            return  # its container has started again
        if self._try(removal, kill=True):
            return
        pause = PAUSE if removal.waited < PATIENCE else LONG_PAUSE
        removal.waited += pause
        if removal.waited >= PATIENCE and pause == PAUSE:
            log.warning("cgroup %s is still busy", removal.path)
            self._answer(removal)
        self._later(pause, lambda: self._try_again(removal))

    def _try(self, removal: _Removal, *, kill: bool) -> bool:
        """Try once; True if there is nothing left to do."""
        owner = self._owner(removal.path)
        if not owner and not clear(removal.path, 0, kill=kill, open=self._open):
            return False
        if owner == removal.container:
            return self._settle(removal)
        return self._gone(removal)

    def _note(self, removal: _Removal) -> None:
        try:
            self._state.leave(removal.container, removal.path)
        except OSError as error:
            log.warning("cgroup %s is not noted as busy: %s", removal.path, error)

    def _gone(self, removal: _Removal) -> bool:
        self._state.remove((removal.container, ""))
        return self._settle(removal)

    def _settle(self, removal: _Removal) -> bool:
        del self._pending[removal.container]
        self._answer(removal)
        return True

    def _answer(self, removal: _Removal) -> None:
        answers, removal.answers = removal.answers, []
        for answer in answers:
            answer.resolve(None)
