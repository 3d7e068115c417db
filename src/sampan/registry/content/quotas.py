"""Quotas: how many bytes, tags and uploads repositories may have, each or several together.

What counts is what a repository has: its blobs and manifests, each once; in a quota that several
share, once for all of them, which triggers of the database count along (`metadata.py`). It is asked
within the change that adds something, so nobody gets past it. Uploads that are not finished count
with what they have or may take (`unfinished.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sampan.errors import InvalidArgument
from sampan.registry.database.metadata import Database, Metadata, Row
from sampan.registry.errors import RegistryError
from sampan.registry.patterns import Pattern
from sampan.spec.digest import Digest

_BELOW = "/**"
RETRY_SECONDS = 60  # that a client is told to wait until others have finished their uploads
_EACH = """
SELECT coalesce(sum(size), 0) FROM (
    SELECT digest, size FROM links JOIN blobs USING (digest) WHERE repository = ?
    UNION SELECT digest, size FROM manifests WHERE repository = ?
) AS mine
"""
_HELD_BY_EACH = """
SELECT 1 FROM links JOIN blobs USING (digest) WHERE digest = ? AND repository = ?
UNION SELECT 1 FROM manifests WHERE digest = ? AND repository = ?
"""
_FILL = """
INSERT INTO held SELECT ?, digest, max(size), count(*) FROM (
    SELECT repository, digest, size FROM links JOIN blobs USING (digest)
    UNION ALL SELECT repository, digest, size FROM manifests
) AS everything WHERE repository >= ? AND repository < ? GROUP BY digest
"""
_UNFINISHED = """
SELECT count(*), coalesce(sum(size), 0) FROM uploads
WHERE repository >= ? AND repository < ? AND upload != ?
"""
Ask = Callable[..., Row | None]
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Quota:
    """A limit for the repositories of a pattern: for each, or `together`."""

    pattern: Pattern
    size: int | None = None
    tags: int | None = None
    together: bool = False
    uploads: int | None = None  # that are not finished

    def __post_init__(self) -> None:
        text = self.pattern.text
        if self.size is None and self.tags is None and self.uploads is None:
            raise InvalidArgument(
                f"the quota of {text} limits nothing: it needs size, tags or uploads"
            )
        if self.together and text != "**":
            name = text.removesuffix(_BELOW)
            if not text.endswith(_BELOW) or any(letter in name for letter in "*?$"):
                raise InvalidArgument(
                    f"the quota of {text}: those that share one are ** or NAMESPACE/**"
                )

    def bounds(self, repository: str) -> tuple[str, str]:
        """Return the names between which the repositories are that this one shares it with."""
        if not self.together:
            return repository, repository + "\0"
        text = self.pattern.text
        if text == "**":
            return "", "\x7f"
        name = text.removesuffix(_BELOW)
        return f"{name}/", f"{name}0"  # the letter behind the slash

    @property
    def owner(self) -> str:
        """Whose quota it is, as users are told."""
        return self.pattern.text


class Use(NamedTuple):
    """How much of a quota is in use. `unfinished` bytes are those of uploads."""

    name: str
    size: int | None
    used: int
    tags: int | None
    used_tags: int
    uploads: int | None
    used_uploads: int
    unfinished: int


class Quotas:
    """All quotas of a registry; without any, everything is admitted."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.quotas: Sequence[Quota] = ()

    def define(self, quotas: Sequence[Quota]) -> None:
        """Set the quotas, and count what those hold who share one."""
        self.quotas = quotas
        with self._metadata.change() as database:
            database.execute("DELETE FROM held")
            database.execute("DELETE FROM shares")
            for low, high in {quota.bounds("") for quota in quotas if quota.together}:
                database.execute("INSERT INTO shares VALUES (?, ?, 0)", (low, high))
                database.execute(_FILL, (low, low, high))

    def _of(self, repository: str) -> list[Quota]:
        return [quota for quota in self.quotas if quota.pattern.matches(repository)]

    def count_uploads(self, repository: str) -> bool:
        """Tell whether uploads to a repository count."""
        return any(one.size is not None or one.uploads is not None for one in self._of(repository))

    def sharers(self, repository: str) -> list[tuple[str, str]]:
        """Return between which names the repositories are whose uploads count with this one's."""
        return sorted({quota.bounds(repository) for quota in self._of(repository)})

    def length(self, repository: str, digest: Digest) -> int | None:
        """Return how many bytes content of a digest has, which is there; None without quotas."""
        if all(quota.size is None for quota in self._of(repository)):
            return None
        row = self._metadata.row("SELECT size FROM blobs WHERE digest = ?", digest)
        return int(row[0]) if row else None

    def most(self, repository: str) -> int | None:
        """Return how many bytes a repository may have in all; None: any number."""
        return min((q.size for q in self._of(repository) if q.size is not None), default=None)

    def least_room(self, repository: str) -> int | None:
        """Return how many bytes a repository may still take now; None: any number."""
        ask = self._metadata.row
        rooms = [
            quota.size - _used(ask, quota, repository) - _unfinished(ask, quota, repository)[1]
            for quota in self._of(repository)
            if quota.size is not None
        ]
        return min(rooms) if rooms else None

    def room(
        self,
        database: Database,
        repository: str,
        size: int,
        digest: Digest | None = None,
        upload: str = "",
    ) -> int | None:
        """Return how many bytes an upload may have, which needs so many; None: any number.

        Raises DENIED if it may not have them; within a change. What is there already takes none.
        """
        ask = _within(database)
        rooms = []
        for quota in self._of(repository):
            if quota.size is None or (digest and _holds(ask, quota, repository, digest)):
                continue
            used = _used(ask, quota, repository)
            _, unfinished = _unfinished(ask, quota, repository, upload)
            rooms.append(quota.size - used - unfinished)
            if size > rooms[-1]:
                raise _denied(repository, quota, used, size, unfinished)
        return min(rooms) if rooms else None

    def admit_upload(self, database: Database, repository: str) -> None:
        """Raise TOOMANYREQUESTS if a repository must not have another upload; within a change."""
        for quota in self._of(repository):
            if quota.uploads is None:
                continue
            count, _ = _unfinished(_within(database), quota, repository)
            if count >= quota.uploads:
                raise RegistryError(
                    "TOOMANYREQUESTS",
                    {"name": repository, "uploads": count, "quota": quota.uploads},
                    message=(
                        f"the quota of {quota.owner} is {quota.uploads} uploads at a time, and"
                        f" {count} are not finished"
                    ),
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )

    def admit(self, database: Database, repository: str, digest: Digest, size: int) -> None:
        """Raise DENIED if a repository must not have this content too; within a change."""
        self.room(database, repository, size, digest)

    def admit_tags(self, database: Database, repository: str, tags: Sequence[str]) -> None:
        """Raise DENIED if a repository must not have these tags too; within a change."""
        for quota in self._of(repository):
            if quota.tags is None:
                continue
            used = _tags(_within(database), quota, repository)
            query = "SELECT name FROM tags WHERE repository = ?"
            there = {name for (name,) in database.execute(query, (repository,))}
            new = len(set(tags) - there)
            if new and used + new > quota.tags:
                raise RegistryError(
                    "DENIED",
                    {"name": repository, "tags": used, "quota": quota.tags},
                    message=f"the quota of {quota.owner} is {quota.tags} tags, all of them in use",
                )

    def used(self) -> list[Use]:
        """Return for whom there is a quota, and what they have of it."""
        ask = self._metadata.row
        found = []
        for quota in self.quotas:
            names = [quota.owner]
            if not quota.together:
                rows = self._metadata.rows("SELECT name FROM repositories ORDER BY name")
                names = [name for (name,) in rows if quota.pattern.matches(name)]
            for name in names:
                used, tags = _used(ask, quota, name), _tags(ask, quota, name)
                count, size = _unfinished(ask, quota, name)
                found.append(
                    Use(name, quota.size, used, quota.tags, tags, quota.uploads, count, size)
                )
        return found


def _within(database: Database) -> Ask:
    """Return what asks for one row within a change."""

    def ask(query: str, *values: object) -> Row | None:
        found: Row | None = database.execute(query, values).fetchone()
        return found

    return ask


def _used(ask: Ask, quota: Quota, repository: str) -> int:
    if quota.together:
        row = ask("SELECT used FROM shares WHERE low = ?", quota.bounds(repository)[0])
    else:
        row = ask(_EACH, repository, repository)
    return int(row[0]) if row else 0


def _holds(ask: Ask, quota: Quota, repository: str, digest: Digest) -> bool:
    if quota.together:
        query = "SELECT 1 FROM held WHERE low = ? AND digest = ?"
        return ask(query, quota.bounds(repository)[0], digest) is not None
    return ask(_HELD_BY_EACH, digest, repository, digest, repository) is not None


def _tags(ask: Ask, quota: Quota, repository: str) -> int:
    query = "SELECT count(*) FROM tags WHERE repository >= ? AND repository < ?"
    (count,) = ask(query, *quota.bounds(repository)) or (0,)
    return int(count)


def _unfinished(ask: Ask, quota: Quota, repository: str, but: str = "") -> tuple[int, int]:
    """Return how many uploads are not finished, and how many bytes they have or may take."""
    count, size = ask(_UNFINISHED, *quota.bounds(repository), but) or (0, 0)
    return int(count), int(size)


def _denied(
    repository: str, quota: Quota, used: int, more: int, unfinished: int = 0
) -> RegistryError:
    limit = quota.size or 0
    uploads = f", {in_words(unfinished)} are in uploads that are not finished" if unfinished else ""
    return RegistryError(
        "DENIED",
        {"name": repository, "used": used, "unfinished": unfinished, "quota": limit},
        message=(
            f"the quota of {quota.owner} is {in_words(limit)}: {in_words(used)} are in use"
            f"{uploads}, and this needs {in_words(max(more, 1))} more"
        ),
    )


def in_words(size: int) -> str:
    """Return a number of bytes as one reads it."""
    number, unit = float(size), 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{size} bytes"
