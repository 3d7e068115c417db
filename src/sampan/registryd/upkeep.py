"""What keeps a registry tidy, by schedule and by command: retention, scrubbing, collection.

A command asks the registry that runs, through a socket in its own folder (`control.py`), and works
on the files itself if none runs. Either way it is this that is done, and these lines are told.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Any

from sampan.errors import Conflict, InvalidArgument
from sampan.registry.observability.audit import AuditLog
from sampan.registry.registry import Registry
from sampan.registry.upkeep.scrub import Finding
from sampan.registryd.governing import Retaining, Scrubbing
from sampan.registryd.settings import Collecting

log = logging.getLogger(__name__)
Line = Mapping[str, Any]
Tell = Callable[[Line], None]
LEAST_DELAY = 60.0  # seconds that what was pushed is safe for while clients push
EVERY_TAG = 10  # looks, of which one reads where each tag points to
LOOK_SECONDS = 3600.0  # between looks whether something has to be read again


class Upkeep:
    """Tidies one registry; each kind of work once at a time. Calls block."""

    def __init__(
        self,
        registry: Registry,
        retaining: Retaining,
        scrubbing: Scrubbing,
        collecting: Collecting,
        audit: AuditLog | None = None,
    ) -> None:
        self._registry = registry
        self._retaining = retaining
        self._scrubbing = scrubbing
        self._collecting = collecting
        self._audit = audit
        self._locks = {
            kind: threading.Lock() for kind in ("retention", "scrub", "collection", "look")
        }
        self.serving = False  # clients push meanwhile
        registry.retention.rules = retaining.rules

    @contextmanager
    def _alone(self, kind: str) -> Iterator[None]:
        lock = self._locks[kind]
        if not lock.acquire(blocking=False):
            raise Conflict(f"{kind}: the registry is at it already")
        try:
            with self._registry.metadata.hold(kind) as got:
                if not got:
                    raise Conflict(f"{kind}: another registry on this storage is at it already")
                yield
        finally:
            lock.release()

    def retain(self, tell: Tell, dry_run: bool = False) -> None:
        """Remove what the rules of retention say, and tell what."""
        with self._alone("retention"):
            self._registry.beside.look(every_tag=True)
            removed = self._registry.retention.apply(dry_run or self._retaining.dry_run)
        for repository, tag, digest in removed.tags:
            found = {"repository": repository, "tag": tag, "digest": digest}
            self._note(tell, "retention", found, dry_run or self._retaining.dry_run)
        for repository, digest in removed.manifests:
            found = {"repository": repository, "digest": digest}
            self._note(tell, "retention", found, dry_run or self._retaining.dry_run)

    def _note(self, tell: Tell, action: str, found: Line, dry_run: bool) -> None:
        tell(found)
        if self._audit and not dry_run:
            self._audit.write(action, result="done", **found)

    def scrub(
        self, tell: Tell, rate: float | None = None, report_only: bool = False, age: float = 0
    ) -> None:
        """Read what was not read for `age` seconds; tell what is damaged, and how much was read."""
        report_only = report_only or self._scrubbing.report_only

        def found(finding: Finding) -> None:
            told = {
                "digest": finding.digest,
                "reason": finding.reason,
                "repositories": list(finding.repositories),
                "quarantined": finding.quarantined,
            }
            self._note(tell, "scrub", told, report_only)

        with self._alone("scrub"):
            begun = time.monotonic()
            done = self._registry.scrubber.scrub(
                self._scrubbing.rate if rate is None else rate,
                self._registry.metadata.now() - age,
                found,
                report_only,
            )
        if done.count:
            log.info("%d blobs, %d bytes were read again", done.count, done.bytes)
        tell(
            {
                "blobs": done.count,
                "bytes": done.bytes,
                "damaged": done.damaged,
                "seconds": round(time.monotonic() - begun, 1),
            }
        )

    def collect(
        self,
        tell: Tell,
        delay: float | None = None,
        untagged: bool = False,
        dry_run: bool = False,
    ) -> None:
        """Remove what nobody needs; tell what, how much, and how old it had to be.

        `delay` is in seconds, that of the configuration if it is not given. Raises OSError where
        collecting is not allowed, and InvalidArgument if pushes would lose what they have sent.
        """
        delay = self._collecting.delay if delay is None else delay
        if self.serving and delay < LEAST_DELAY:
            raise InvalidArgument("the delay must be at least a minute, and longer than a push")
        with self._alone("collection"):
            found = self._registry.collector.collect(delay, untagged=untagged, dry_run=dry_run)
        counted = {"blobs": len(found.blobs), "manifests": len(found.manifests)}
        if not dry_run:
            log.info("collected %d blobs, %d bytes", len(found.blobs), found.bytes)
            if self._audit and any(counted.values()):
                self._audit.write("collect", result="done", **counted, bytes=found.bytes)
        for repository, digest in found.manifests:
            tell({"repository": repository, "digest": digest})
        for digest in found.blobs:
            tell({"digest": digest})
        tell({**counted, "bytes": found.bytes, "delay": delay, "serving": self.serving})

    def quotas(self, tell: Tell) -> None:
        """Tell for whom there is a quota, and how much of it is in use."""
        for use in self._registry.quotas.used():
            tell({key: value for key, value in use._asdict().items() if value is not None})

    def close(self) -> None:
        """End what is going on."""
        self._registry.scrubber.stop.set()

    # --- by schedule

    async def keep_tidy(self, threads: Executor) -> None:
        """Apply the rules of retention again and again."""
        while self._retaining.rules:
            await asyncio.sleep(self._retaining.interval)
            await _run(threads, "retention", lambda: self.retain(_log))

    async def keep_collecting(self, threads: Executor) -> None:
        """Collect garbage while clients push and pull."""
        untagged = self._collecting.untagged
        while self._collecting.enabled:
            await asyncio.sleep(self._collecting.interval)
            await _run(threads, "collection", lambda: self.collect(_ignore, untagged=untagged))

    async def keep_looking(self, threads: Executor, interval: float) -> None:
        """Look again and again at what others have written; 0 seconds: never."""
        for number in itertools.count(1):
            if interval <= 0:
                return
            await asyncio.sleep(interval)
            await _run(threads, "a look at what others have written", partial(self.look, number))

    def look(self, number: int) -> None:
        """Look at what others have written; each tenth time also where each tag points to."""
        with self._alone("look"):
            self._registry.beside.look(every_tag=number % EVERY_TAG == 0)

    async def keep_reading(self, threads: Executor) -> None:
        """Read again what was not read for the interval."""
        age = self._scrubbing.interval
        while self._scrubbing.enabled:
            await _run(threads, "scrub", lambda: self.scrub(_ignore, age=age))
            await asyncio.sleep(min(age, LOOK_SECONDS))


async def _run(threads: Executor, what: str, work: Callable[[], None]) -> None:
    try:
        await asyncio.get_running_loop().run_in_executor(threads, work)
    except Conflict:
        return
    except (OSError, sqlite3.Error) as error:
        log.error("%s is not done: %s", what, error)


def _log(line: Line) -> None:
    log.debug("retention: %s", line)


def _ignore(line: Line) -> None:
    """What is found is logged where it is found."""
