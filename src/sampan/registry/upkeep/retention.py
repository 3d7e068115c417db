"""Retention: which tags and untagged manifests of a repository go, by rules, while clients push.

What is attached to an image (referrers, and tags such as `sha256-….sig`) stays and goes with it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.database.metadata import Database, Metadata
from sampan.registry.drivers.driver import Change, Driver
from sampan.registry.patterns import Pattern, any_matches
from sampan.registry.upkeep.gc import Bin, Collector
from sampan.spec.digest import Digest

log = logging.getLogger(__name__)
STEP = 50  # tags in one change, so that no push waits for long
# Whoever attaches something may push it before the image.
ATTACHED_GRACE = 3600.0
CLOCK_SECONDS = 3600.0  # that the time of files and ours may differ by
# cosign's tags, and those of the distribution specification for registries without referrers.
_ATTACHED = re.compile(
    r"(sha256-[0-9a-f]{64}|sha384-[0-9a-f]{96}|sha512-[0-9a-f]{128})(?:\.[A-Za-z0-9._-]+)?"
)
_TAGS = "SELECT name, digest, moved FROM tags WHERE repository = ?"


@dataclass(frozen=True)
class Rule:
    """What is kept in the repositories of some patterns. Times are seconds."""

    repositories: Sequence[Pattern]
    tags: Sequence[Pattern]  # that may go
    protected: Sequence[Pattern] = ()  # that never go
    last: int | None = None  # as many of the newest stay
    within: float | None = None  # as young ones stay
    untagged: float | None = None  # older manifests without a tag go

    def __post_init__(self) -> None:
        if self.last is None and self.within is None and self.untagged is None:
            raise InvalidArgument(
                "the rule keeps everything: it needs keeplast, keepwithin or untagged"
            )


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, and when it was last pushed, by `Metadata.now`."""

    name: str
    digest: str
    moved: float


@dataclass
class Removed:
    """What went, or would."""

    tags: list[tuple[str, str, str]] = field(default_factory=list)  # repository, tag, digest
    manifests: list[tuple[str, Digest]] = field(default_factory=list)


def subject_of(tag: str) -> str:
    """Return the digest of what a tag's manifest is attached to by its name; empty: to nothing."""
    match = _ATTACHED.fullmatch(tag)
    return match[1].replace("-", ":") if match else ""


def outdated(tags: Sequence[Tag], rule: Rule, now: float) -> list[Tag]:
    """Return the tags that a rule removes, the oldest first. What is attached is not looked at."""
    if rule.last is None and rule.within is None:
        return []
    ours = [
        tag
        for tag in tags
        if not subject_of(tag.name)
        and any_matches(rule.tags, tag.name)
        and not any_matches(rule.protected, tag.name)
    ]
    ours.sort(key=lambda tag: (tag.moved, tag.name))
    old = ours[: max(0, len(ours) - (rule.last or 0))]
    if rule.within is not None:
        old = [tag for tag in old if tag.moved < now - rule.within]
    return old


class Retention:
    """Applies rules: the first one that is about a repository counts."""

    def __init__(self, driver: Driver, metadata: Metadata) -> None:
        self._driver = driver
        self._metadata = metadata
        self.rules: Sequence[Rule] = ()
        self.time_of_files: Callable[[], float] = time.time  # the clock that their ages are by

    def apply(self, dry_run: bool = False) -> Removed:
        """Remove what the rules say from all repositories, or tell what that would be."""
        removed = Removed()
        for (name,) in self._metadata.rows("SELECT name FROM repositories ORDER BY name"):
            rule = next((r for r in self.rules if any_matches(r.repositories, name)), None)
            if rule:
                self._find_ages(name)
            if rule and dry_run:
                with self._undone():
                    self._apply(removed, name, rule, _Untouched())
            elif rule:
                self._apply(removed, name, rule, self._driver)
        return removed

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Let rows change for a look at what that leads to, and no longer."""
        try:
            with self._metadata.change():
                yield
                raise _Enough
        except _Enough:
            pass

    def _apply(self, removed: Removed, name: str, rule: Rule, bin: Bin) -> None:
        told = bin is self._driver
        old = outdated(self._tags(name), rule, self._metadata.now())
        for start in range(0, len(old), STEP):
            self._untag(removed, name, old[start : start + STEP], bin, told)
        collector = Collector(bin, self._metadata, told)
        while True:
            if rule.untagged is not None:
                removed.manifests += [
                    (name, digest) for digest in collector.untagged(name, rule.untagged)
                ]
            lonely = self._lonely(name, rule)
            if not lonely:
                return
            self._untag(removed, name, lonely, bin, told)

    def _tags(self, name: str) -> list[Tag]:
        with self._metadata.change() as database:
            return [Tag(*row) for row in database.execute(_TAGS, (name,)).fetchall()]

    def _find_ages(self, name: str) -> None:
        """Ask the files when tags were moved whose rows were made anew, and do not say."""
        found = []
        now = self._metadata.now()
        # Where files have another time than we, they say nothing, and the tag is new.
        are_right = abs(self.time_of_files() - now) < CLOCK_SECONDS
        for row in self._metadata.rows(_TAGS, name):
            tag = Tag(*row)
            if not tag.moved:
                moved = now
                if are_right:
                    with suppress(FileNotFoundError):
                        moved = self._driver.modified(paths.tag_current(name, tag.name))
                found.append((moved, name, tag.name))
        if found:
            with self._metadata.change() as database:
                database.executemany(
                    "UPDATE tags SET moved = ? WHERE repository = ? AND name = ? AND moved = 0",
                    found,
                )

    def _lonely(self, name: str, rule: Rule) -> list[Tag]:
        """Return the tags of what is attached to a manifest that is not there (any more)."""
        limit = self._metadata.now() - ATTACHED_GRACE
        found = []
        with self._metadata.change() as database:
            rows = database.execute(_TAGS, (name,)).fetchall()
            for tag in (Tag(*row) for row in rows):
                subject = subject_of(tag.name)
                if not subject or tag.moved >= limit or any_matches(rule.protected, tag.name):
                    continue
                query = "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?"
                if not database.execute(query, (name, subject)).fetchone():
                    found.append(tag)
        return found

    def _untag(
        self, removed: Removed, name: str, tags: Sequence[Tag], bin: Bin, told: bool
    ) -> None:
        """Remove tags, unless they were pushed again since somebody looked."""
        with self._metadata.change() as database:
            gone = [tag for tag in tags if _is_as_it_was(database, name, tag)]
            bin.delete([paths.tag(name, tag.name) for tag in gone], within=database)
            database.executemany(
                "DELETE FROM tags WHERE repository = ? AND name = ?",
                [(name, tag.name) for tag in gone],
            )
        for tag in gone:
            removed.tags.append((name, tag.name, tag.digest))
            if told:
                log.info("tag %s of %s is removed: %s", tag.name, name, tag.digest)


def _is_as_it_was(database: Database, name: str, tag: Tag) -> bool:
    query = "SELECT digest, moved FROM tags WHERE repository = ? AND name = ?"
    row: tuple[str, float] | None = database.execute(query, (name, tag.name)).fetchone()
    return row == (tag.digest, tag.moved)


class _Untouched:
    """Instead of a driver, where nothing is to happen."""

    def delete(self, *groups: Sequence[str], within: Change) -> None:
        """Leave it."""


class _Enough(Exception):
    """Ends a change that is to be undone."""


def tag_pattern(text: str) -> Pattern:
    """Return the pattern of a tag; raise InvalidArgument."""
    pattern = Pattern(text)
    if "/" in text or "$" in text:
        raise InvalidArgument(f"{text!r} is no pattern for tags")
    return pattern
