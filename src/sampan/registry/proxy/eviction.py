"""How much a cache keeps: what was not used for longest is forgotten when something new needs room.

Limits are those of the configuration (`maxsize`), for all upstreams together and for each, and
quotas that are about a cached repository. Images go by the time of their last pull, with the blobs
that no other manifest of their repository needs; so do blobs that no manifest needs. What was
pushed here is never touched. Nobody's pull is refused: what does not fit is passed on, not kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sampan.registry.errors import RegistryError
from sampan.registry.proxy.figures import Figures
from sampan.registry.proxy.upstreams import Places
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest

log = logging.getLogger(__name__)
# What somebody is pulling stays: else images that do not fit together would push each other out,
# and a manifest might go before it is sent. Longer than a row lags behind a use (TOUCH_SECONDS).
IN_USE_SECONDS = 60.0
AFTER = 0.95  # of a limit is in use after an eviction, so that not every blob needs another one
LOOK_SECONDS = 60.0  # that a sum holds where other registries keep things in the same rows
_HELD = """
SELECT repository, digest, size FROM links JOIN blobs USING (digest)
UNION SELECT repository, digest, size FROM manifests
"""
_OLDEST = """
SELECT touched, repository, digest, 1 FROM manifests
UNION ALL SELECT touched, links.repository, digest, 0 FROM blobs JOIN links USING (digest)
    WHERE NOT EXISTS (
        SELECT 1 FROM parts WHERE parts.digest = blobs.digest
            AND parts.repository = links.repository)
ORDER BY 1
"""
# Parts of a manifest that nobody reads; those that somebody does go later, as lonely blobs.
_PARTS_LEFT_ALONE = """
SELECT parts.digest FROM parts LEFT JOIN blobs ON blobs.digest = parts.digest
WHERE parts.repository = ? AND parts.manifest = ? AND coalesce(blobs.touched, 0) <= ?
"""
Among = Callable[[str], bool]  # tells whether a repository is one of some


@dataclass
class Limit:
    """How many bytes the repositories of some upstreams may have."""

    size: int
    among: Among
    used: int = 0  # when it was last summed up, and what has come since
    summed: float | None = None
    coming: int = 0

    @property
    def total(self) -> int:
        return self.used + self.coming


@dataclass
class Eviction:
    """Makes room in a cache. Calls block."""

    registry: Registry
    places: Places
    figures: Figures
    limits: list[Limit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        if self.places.max_size is not None:
            self.limits.append(Limit(self.places.max_size, self._is_cached))
        for upstream in self.places.upstreams:
            if upstream.max_size is not None:
                self.limits.append(Limit(upstream.max_size, self._from(upstream.name)))

    def _is_cached(self, repository: str) -> bool:
        return self.places.of(repository) is not None

    def _from(self, name: str) -> Among:
        def among(repository: str) -> bool:
            place = self.places.of(repository)
            return place is not None and place.upstream.name == name

        return among

    def has_room(self, repository: str, size: int) -> bool:
        """Tell whether so many bytes fit and nothing has to be forgotten for them."""
        with self._lock:
            about = [limit for limit in self.limits if limit.among(repository)]
            for limit in about:
                if self._is_stale(limit):
                    self._sum(limit)
            room = self.registry.quotas.least_room(repository)
        return all(limit.total + size <= limit.size for limit in about) and (
            room is None or size <= room
        )

    def make_room(self, repository: str, size: int) -> bool:
        """Forget what is old until so many bytes fit; False if they must not be kept.

        Whoever is told True has to tell when they are here, or will not be: `came`.
        """
        with self._lock:
            about = [limit for limit in self.limits if limit.among(repository)]
            if not all(self._fits(limit, size) for limit in about):
                return False
            if not self._fits_quotas(repository, size):
                return False
            for limit in about:
                limit.coming += size
        return True

    def came(self, repository: str, size: int, kept: bool) -> None:
        """Take note of what `make_room` was asked for."""
        with self._lock:
            for limit in self.limits:
                if limit.among(repository):
                    limit.coming -= size
                    limit.used += size if kept else 0

    def enforce(self) -> None:
        """Forget what is too much: a limit may be lower than it was."""
        with self._lock:
            for limit in self.limits:
                limit.summed = None
                self._fits(limit, 0)

    def _fits(self, limit: Limit, size: int) -> bool:
        if size > limit.size:
            return False
        if self._is_stale(limit) or limit.total + size > limit.size:
            self._sum(limit)
        if limit.total + size <= limit.size:
            return True
        goal = min(int(limit.size * AFTER), limit.size - size)
        oldest = self._oldest(limit.among)
        while limit.total > goal and self._forget(oldest, limit.total - goal):
            self._sum(limit)
        return limit.total + size <= limit.size

    def _is_stale(self, limit: Limit) -> bool:
        if limit.summed is None:
            return True
        return self.registry.metadata.shared and time.monotonic() - limit.summed > LOOK_SECONDS

    def _sum(self, limit: Limit) -> None:
        rows = self.registry.metadata.rows(_HELD)
        names = {name for name, _, _ in rows}
        among = {name for name in names if limit.among(name)}
        limit.used = sum({digest: size for name, digest, size in rows if name in among}.values())
        limit.summed = time.monotonic()

    def _fits_quotas(self, repository: str, size: int) -> bool:
        quotas = self.registry.quotas
        most = quotas.most(repository)
        if most is not None and size > most:
            return False
        sharers = quotas.sharers(repository)
        oldest: Iterator[tuple[str, Digest, bool]] | None = None
        while (room := quotas.least_room(repository)) is not None and room < size:
            oldest = oldest or self._oldest(
                lambda name: any(low <= name < high for low, high in sharers)
            )
            if not self._forget(oldest, size - room):
                return False
        return True

    def _oldest(self, among: Among) -> Iterator[tuple[str, Digest, bool]]:
        """Yield the manifests and lonely blobs of cached repositories, what is older first."""
        before = self.registry.metadata.now() - IN_USE_SECONDS
        for touched, name, digest, is_manifest in self.registry.metadata.rows(_OLDEST):
            if touched > before:
                return
            if among(name) and self._is_cached(name):
                yield name, Digest(digest), bool(is_manifest)

    def _forget(self, oldest: Iterator[tuple[str, Digest, bool]], size: int) -> bool:
        """Forget some of what is old, which may be as much; False if nothing is left."""
        try:
            self.registry.collector.allowed()
        except OSError as error:
            log.warning("nothing is forgotten to make room: %s", error)
            return False
        gone = -1
        for name, digest, is_manifest in oldest:
            gone = max(gone, 0) + self._forget_one(name, digest, is_manifest)
            if gone >= size:
                break
        return gone >= 0

    def _forget_one(self, name: str, digest: Digest, is_manifest: bool) -> int:
        """Forget a manifest and what only it needs, or a blob; return how many bytes that were."""
        registry = self.registry
        with registry.metadata.change() as database:
            parts = [digest]
            if is_manifest:
                before = self.registry.metadata.now() - IN_USE_SECONDS
                rows = database.execute(_PARTS_LEFT_ALONE, (name, digest, before))
                parts += [Digest(part) for (part,) in rows]
                try:
                    registry.manifests.remove(name, digest)
                except RegistryError:
                    return 0  # it was removed meanwhile
            gone = registry.collector.release(database, name, parts)
        what = "manifest" if is_manifest else "blob"
        log.info("%s %s of %s is forgotten: there has to be room", what, digest, name)
        place = self.places.of(name)
        if place:
            self.figures.add("evicted_bytes", place.upstream.name, what, gone)
        return gone
