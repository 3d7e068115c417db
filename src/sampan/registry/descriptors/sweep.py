"""Looking through a whole Redis for descriptors of what is not there.

Rows do not know all that should be gone: docker-registry's own collection leaves descriptors, a
Redis that is started anew may come back with old ones, and rows can be made anew. Nor do they know
all that is there: docker-registry beside us may have taken it. So files have the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.database.metadata import Metadata
from sampan.registry.descriptors import keys
from sampan.registry.drivers.driver import Driver, size_or_none
from sampan.spec.digest import Digest, parse_digest

STEP = 200


class Sweep:
    """Goes through a server once."""

    def __init__(self, client: Any, driver: Driver, metadata: Metadata) -> None:
        self._client = client
        self._driver = driver
        self._metadata = metadata

    def steps(self) -> Iterator[int]:
        """Remove what is wrong, step by step; yield how many descriptors each step removed.

        Raises redis.RedisError, and OSError if the storage or the database cannot be asked.
        """
        for pattern in keys.PATTERNS:
            found = self._client.scan_iter(match=pattern, count=STEP)
            while batch := list(islice(found, STEP)):
                parsed = [key for name in batch if (key := keys.parse(name))]
                yield self._remove(self._wrong(parsed))
                for key in parsed:
                    if key.digest is None:
                        yield from self._members(key.repository)

    def _members(self, repository: str) -> Iterator[int]:
        found = self._client.sscan_iter(keys.members(repository), count=STEP)
        while batch := list(islice(found, STEP)):
            parsed = [keys.Key(repository, digest) for text in batch if (digest := _digest(text))]
            yield self._remove(self._wrong(parsed))

    def _wrong(self, found: Iterable[keys.Key]) -> list[keys.State]:
        return [
            keys.State(key.repository, key.digest, None if not key.repository else 0, False)
            for key in found
            if key.digest and not self._is_there(key.repository, key.digest)
        ]

    def _is_there(self, repository: str, digest: Digest) -> bool:
        if not repository:
            known = self._metadata.row("SELECT 1 FROM blobs WHERE digest = ?", digest)
            return bool(known) or size_or_none(self._driver, paths.blob(digest)) is not None
        query = "SELECT 1 FROM links WHERE repository = ? AND digest = ?"
        if self._metadata.row(query, repository, digest):
            return True
        link = paths.layer_link(repository, digest)
        return size_or_none(self._driver, link) is not None

    def _remove(self, wrong: list[keys.State]) -> int:
        if not wrong:
            return 0
        with self._client.pipeline(transaction=False) as pipeline:
            count = keys.removals(pipeline, wrong)
            pipeline.execute()
        return count


def _digest(text: bytes) -> Digest | None:
    try:
        return parse_digest(text.decode("ascii", "replace"))
    except InvalidArgument:
        return None
