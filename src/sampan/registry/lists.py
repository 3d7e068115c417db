"""What can be listed: repositories, tags, and the manifests that refer to a manifest; in pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from sampan.registry.content.others import NoOthers, Others
from sampan.registry.database.metadata import ALL, Metadata, Row
from sampan.registry.errors import RegistryError
from sampan.registry.kept import Kept
from sampan.spec.digest import Digest

T = TypeVar("T")
REFERRERS_PAGE = 1 << 20  # bytes of descriptors; a client may read no more than 4 MiB
REFERRERS_READ = 4 << 20  # bytes of manifests whose rows are read at once: no row has more than one
REFERRERS_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list. `last` is where the next one goes on; empty at the end."""

    items: list[T]
    last: str = ""


class Lists:
    """Answers from the database, in the order of bytes."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        # What other processes change is asked each time.
        self.kept = Kept(0) if metadata.shared else Kept()
        metadata.forget = self.kept.forget
        self.others: Others = NoOthers()

    def repositories(self, after: str, count: int) -> Page[str]:
        """Return up to `count` repositories whose names come after `after`."""
        query = "SELECT name FROM repositories WHERE name > ? ORDER BY name LIMIT ?"
        return page_of([name for (name,) in self._metadata.rows(query, after, count + 1)], count)

    def search(self, term: str, count: int) -> list[str]:
        """Return up to `count` repositories with a term in their names."""
        query = "SELECT name FROM repositories WHERE instr(name, ?) > 0 ORDER BY name LIMIT ?"
        return [name for (name,) in self._metadata.rows(query, term.lower(), count)]

    def tags(self, repository: str, after: str, count: int | None) -> Page[str]:
        """Return up to `count` tags; all for None. Raises NAME_UNKNOWN."""
        query = "SELECT 1 FROM repositories WHERE name = ?"
        known = self._metadata.row(query, repository)
        if not known and self.others.find_repository(repository):
            known = self._metadata.row(query, repository)
        if not known:
            raise RegistryError("NAME_UNKNOWN", {"name": repository})
        query = "SELECT name FROM tags WHERE repository = ? AND name > ? ORDER BY name LIMIT ?"
        limit = ALL if count is None else count + 1
        found = [name for (name,) in self._metadata.rows(query, repository, after, limit)]
        return page_of(found, len(found) if count is None else count)

    def referrers(
        self, repository: str, subject: Digest, artifact_type: str, after: str
    ) -> Page[dict[str, Any]]:
        """Return the descriptors of manifests whose subject is another one, known or not."""
        rows = self._referring(repository, subject, artifact_type, after)
        return page_of_referrers(map(_descriptor, rows))

    def _referring(
        self, repository: str, subject: Digest, artifact_type: str, after: str
    ) -> Iterator[Row]:
        """Yield the rows of what refers to a manifest, a few megabytes of them at a time.

        There may be any number, and each may have annotations of 4 MiB.
        """
        where = (
            "FROM manifests WHERE repository = ? AND subject = ? AND ? IN ('', artifact_type)"
            " AND digest > ?"
        )
        sizes = f"SELECT digest, size {where} ORDER BY digest LIMIT ?"
        whole = (
            f"SELECT digest, media_type, size, artifact_type, annotations {where}"
            " AND digest <= ? ORDER BY digest"
        )
        about = (repository, subject, artifact_type)
        while found := self._metadata.rows(sizes, *about, after, REFERRERS_ROWS):
            sums = itertools.accumulate(size for _, size in found)
            count = max(1, sum(total <= REFERRERS_READ for total in sums))
            last = found[count - 1][0]
            yield from self._metadata.rows(whole, *about, after, last)
            after = last


def _descriptor(row: Row) -> dict[str, Any]:
    digest, media_type, size, kind, annotations = row
    item: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
    if kind:
        item["artifactType"] = kind
    if annotations:
        item["annotations"] = msgspec.json.decode(annotations)
    return item


def page_of_referrers(found: Iterable[dict[str, Any]]) -> Page[dict[str, Any]]:
    """Return as many descriptors as a client reads at once; they are in the order of digests."""
    items: list[dict[str, Any]] = []
    total = 0
    for item in found:
        total += len(msgspec.json.encode(item))
        if items and total > REFERRERS_PAGE:
            return Page(items, items[-1]["digest"])
        items.append(item)
    return Page(items)


def page_of(found: list[str], count: int) -> Page[str]:
    """Return the first `count` of what was found, and whether there is more."""
    more = len(found) > count > 0
    items = found[:count]
    return Page(items, items[-1] if more else "")
