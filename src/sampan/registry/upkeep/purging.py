"""Uploads that nobody goes on with are ended, unless it only looks so because a clock is wrong."""

from __future__ import annotations

import time

from sampan.registry.registry import Registry

HOUR = 3600.0


class Purging:
    """Looks at uploads again and again.

    How old one is the time of day tells. What it jumps while we look on does not count; and since
    it may be wrong from the start, one that is old is ended if it has not grown between two looks,
    `pause` apart by a clock that does not jump.
    """

    def __init__(self, registry: Registry, age: float, dry_run: bool = False) -> None:
        """`age` is in seconds. With `dry_run` it is only told what would end."""
        self._registry = registry
        self._age = age
        self._dry_run = dry_run
        self._seen: dict[str, tuple[int, float]] = {}  # upload → its length, since when
        self._ahead = time.time() - registry.metadata.now()
        self.pause = min(HOUR, age)

    def look(self) -> list[str]:
        """End what was old and has not grown; return the ids. Blocks; raises OSError."""
        now = self._registry.metadata.now()
        before = min(time.time(), now + self._ahead) - self._age
        seen: dict[str, tuple[int, float]] = {}

        def is_left(key: str, length: int) -> bool:
            known = self._seen.get(key)
            seen[key] = known if known and known[0] == length else (length, now)
            return now - seen[key][1] >= self.pause

        purged = self._registry.purge_uploads(before, self._dry_run, is_left)
        self._seen = {key: found for key, found in seen.items() if key not in purged}
        return purged

    def waits(self) -> bool:
        """Tell whether something may be ended after `pause` already."""
        return bool(self._seen)
