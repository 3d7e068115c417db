"""The table of id ranges: each container with `--userns=auto` has one that nobody else has.

A range is taken in memory first and becomes durable in the transaction that saves its container;
it is free again when the rows of all containers that run in it are gone. Decision 025.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import chain
from typing import Final
from zlib import crc32

from sampan.engine.database import Database
from sampan.errors import Conflict
from sampan.linux import subids
from sampan.linux.subids import Range
from sampan.spec.user_modes import SIZE

#: What systemd leaves unused below the ids of files that it calls foreign, up to 2^31.
#: Source: systemd docs/UIDS-GIDS.md.
DEFAULT_POOL: Final[Range] = (0x70000000, 0x0FFE0000)


def pool_of(owners: Sequence[str]) -> list[Range]:
    """Return the ids that may be handed out: those that /etc/subuid and subgid give to an owner.

    If they give it none: high ones that nobody has there.
    """
    uids, gids = (subids.ranges(file, owners) for file in (subids.SUBUID, subids.SUBGID))
    if uids and gids:
        return subids.common(uids, gids)
    others = subids.ranges(subids.SUBUID) + subids.ranges(subids.SUBGID)
    return subids.without([DEFAULT_POOL], others)


class IdRanges:
    """Hands out ranges of a pool; from any thread.

    `seed` decides where the first is taken, so that two engines of a machine are unlikely to use
    the same ids.
    """

    def __init__(self, database: Database, pool: Sequence[Range], seed: bytes = b"") -> None:
        self._database, self._pool = database, list(pool)
        self._lock = threading.Lock()
        self._reserved: dict[str, Range] = {}  # by container; not durable yet
        self._next = -1  # no range is used again before all others were
        self._seed = crc32(seed) if seed else 0

    def reserve(self, container: str, size: int) -> int:
        """Take a range for a container that is being made; return its first id.

        Raises Conflict if there is none left.
        """
        with self._lock:
            taken = sorted({*self._database.id_ranges(), *self._reserved.values()})
            if self._next < 0:
                self._next = max((first + count for first, count in taken), default=self._begin())
            for start in (self._next, 0):
                first = _gap(self._pool, taken, size, start)
                if first is not None:
                    self._reserved[container] = (first, size)
                    self._next = first + size
                    return first
        raise Conflict(
            f"no range of {size} ids is free for --userns=auto: {len(taken)} are in use; remove"
            " containers, or give the engine's user more ids in /etc/subuid and /etc/subgid"
        )

    def _begin(self) -> int:
        """Return the id that the seed means: the first of one of the places of usual size."""
        places = [(first, count // SIZE) for first, count in self._pool]
        number = self._seed % max(1, sum(count for _, count in places))
        for first, count in places:
            if number < count:
                return first + number * SIZE
            number -= count
        return 0

    def keep(self, container: str, first: int, size: int) -> None:
        """Make the reservation of a container durable that was saved without one."""
        self._database.keep_id_range(container, first, size)
        self.settle(container)

    def settle(self, container: str) -> None:
        """Forget a reservation: it has become durable, or nothing came of it."""
        with self._lock:
            self._reserved.pop(container, None)


def _gap(pool: Sequence[Range], taken: Sequence[Range], size: int, start: int) -> int | None:
    """Return the first id, not before `start`, of enough free ones; None if there are not."""
    for begin, length in pool:
        at, end = max(begin, start), begin + length
        for first, count in chain(taken, [(end, 0)]):
            if at + size <= min(first, end):
                return at
            if first + count > at:
                at = first + count
            if at + size > end:
                break
    return None
