"""Scrubbing: read what is stored, at a limited rate, and see whether it is what its digest says.

A damaged blob goes to `sampan/quarantine` and counts as unknown from then on (404): a client that
has it pushes it again, which mends it for all repositories; 503 would only make clients wait. A
damaged manifest counts as unknown too, but stays where it is: as long as nobody knows what it
needs, no collection takes anything from its repositories.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sampan.registry import paths
from sampan.registry.database.metadata import Metadata
from sampan.registry.descriptors.descriptors import Descriptors, NoDescriptors
from sampan.registry.drivers.driver import Driver
from sampan.spec.digest import Digest, algorithm, encoded

log = logging.getLogger(__name__)
PIECE = 1 << 20
BATCH = 100
QUARANTINE = "sampan/quarantine"  # outside of the layout: docker-registry never looks there
_NEXT = """
SELECT digest, size FROM blobs LEFT JOIN verified USING (digest)
    WHERE coalesce(moment, 0) < ? ORDER BY coalesce(moment, 0), digest LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One blob or manifest that is not what it should be."""

    digest: str
    reason: str
    repositories: tuple[str, ...]
    quarantined: bool


@dataclass
class Scrubbed:
    """What was read."""

    count: int = 0
    bytes: int = 0
    damaged: int = 0


class Stopped(Exception):
    """The scrubbing was told to end."""


class Scrubber:
    """Reads everything. One at a time; it is called in a thread."""

    def __init__(self, driver: Driver, metadata: Metadata) -> None:
        self._driver = driver
        self._metadata = metadata
        self.descriptors: Descriptors = NoDescriptors()
        self.stop = threading.Event()

    def scrub(
        self,
        rate: float,
        before: float,
        tell: Callable[[Finding], None],
        report_only: bool = False,
    ) -> Scrubbed:
        """Read what was last read before a time, at most `rate` bytes a second (0: any number).

        The time is one of `Metadata.now`. `tell` hears of everything that is damaged. With
        `report_only` it stays as it is.
        """
        done = Scrubbed()
        pace = _Pace(rate, self.stop)
        while batch := self._metadata.rows(_NEXT, before, BATCH):
            for digest, size in batch:
                if self.stop.is_set():
                    return done
                try:
                    finding = self._check(Digest(digest), size, pace, report_only)
                except Stopped:
                    return done
                done.count += 1
                done.bytes += size
                if finding:
                    done.damaged += 1
                    log.error("%s is damaged: %s", digest, finding.reason)
                    tell(finding)
                self._note(digest, max(self._metadata.now(), before))
        with self._metadata.change() as database:
            database.execute("DELETE FROM verified WHERE digest NOT IN (SELECT digest FROM blobs)")
        return done

    def doubt(self, digests: Sequence[Digest]) -> None:
        """Read blobs that may be damaged, and put away those that are."""
        for digest in digests:
            row = self._metadata.row("SELECT size FROM blobs WHERE digest = ?", digest)
            if row is not None:
                finding = self._check(digest, row[0], _Pace(0, self.stop), report_only=False)
                if finding:
                    log.error("%s is damaged: %s", digest, finding.reason)

    def _note(self, digest: str, moment: float) -> None:
        with self._metadata.change() as database:
            database.execute(
                "INSERT INTO verified VALUES (?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET moment = excluded.moment",
                (digest, moment),
            )

    def _check(self, digest: Digest, size: int, pace: _Pace, report_only: bool) -> Finding | None:
        """Read one blob; return what is wrong with it."""
        try:
            stamp = self._driver.modified(paths.blob(digest))
            reason = self._look(digest, size, pace)
            if reason:  # perhaps it was the way here that was bad
                reason = self._look(digest, size, pace)
        except FileNotFoundError:
            stamp, reason = None, "its file is missing"
        except OSError as error:  # which may pass, so it stays as it is
            return self._finding(digest, f"it cannot be read: {error.strerror or error}", False)
        if not reason:
            return None
        if report_only:
            return self._finding(digest, reason, False)
        found = self._put_away(digest, size, stamp, reason)
        self.descriptors.settle()
        return found

    def _look(self, digest: Digest, size: int, pace: _Pace) -> str:
        """Return what is wrong with a blob's content; empty if nothing is."""
        try:
            return self._compare(digest, size, pace)
        except OSError as error:
            if error.errno != errno.EBADMSG:  # the storage itself says that it is damaged
                raise
            return str(error.strerror)

    def _compare(self, digest: Digest, size: int, pace: _Pace) -> str:
        found = hashlib.new(algorithm(digest))
        with self._driver.open(paths.blob(digest)) as content:
            if content.size != size:
                return f"it has {content.size} bytes instead of {size}"
            offset = 0
            while piece := content.read(offset, PIECE):
                found.update(piece)
                offset += len(piece)
                pace.wait(len(piece))
        if offset != size:
            return f"it has {offset} bytes instead of {size}"
        if found.hexdigest() != encoded(digest):
            return f"its content is {algorithm(digest)}:{found.hexdigest()}"
        return ""

    def _finding(self, digest: Digest, reason: str, quarantined: bool) -> Finding:
        query = (
            "SELECT repository FROM links WHERE digest = ?"
            " UNION SELECT repository FROM manifests WHERE digest = ? ORDER BY 1"
        )
        names = tuple(name for (name,) in self._metadata.rows(query, digest, digest))
        return Finding(digest, reason, names, quarantined)

    def _put_away(
        self, digest: Digest, size: int, stamp: float | None, reason: str
    ) -> Finding | None:
        """Let nobody have a damaged blob any more; None if it was mended or removed meanwhile."""
        finding = self._finding(digest, reason, True)
        query = "SELECT 1 FROM manifests WHERE digest = ?"
        if self._metadata.row(query, digest):
            return finding if self._forget_manifest(digest, size, stamp) else None
        place = f"{QUARANTINE}/{algorithm(digest)}/{encoded(digest)}"
        with ExitStack() as stack:
            moved = None
            if stamp is not None:
                moved = stack.enter_context(self._driver.move(paths.blob(digest), place))
                moved.prepare()
            with self._metadata.change() as database:
                if not self._is_as_it_was(digest, size, stamp):
                    return None
                if moved:
                    database.confirm()
                    moved.publish()
                    moved.close()  # here, because later the old name may be a new blob's
                database.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
        return finding

    def _forget_manifest(self, digest: Digest, size: int, stamp: float | None) -> bool:
        with self._metadata.change() as database:
            if not self._is_as_it_was(digest, size, stamp):
                return False
            database.execute("UPDATE manifests SET media_type = '' WHERE digest = ?", (digest,))
            # Somebody has it as a blob as well; whoever pushes the manifest does not bring that.
            holders = database.execute("SELECT repository FROM links WHERE digest = ?", (digest,))
            links = [paths.layer_folder(name, digest) for (name,) in holders]
            self._driver.delete(links, within=database)
            database.execute("DELETE FROM links WHERE digest = ?", (digest,))
        return True

    def _is_as_it_was(self, digest: Digest, size: int, stamp: float | None) -> bool:
        """Tell whether the row and the file are those that were looked at; within a change."""
        row = self._metadata.row("SELECT size FROM blobs WHERE digest = ?", digest)
        try:
            now: float | None = self._driver.modified(paths.blob(digest))
        except FileNotFoundError:
            now = None
        return row == (size,) and now == stamp


class _Pace:
    """Keeps reading below a rate."""

    def __init__(self, rate: float, stop: threading.Event) -> None:
        self._rate = rate
        self._stop = stop
        self._next = time.monotonic()

    def wait(self, count: int) -> None:
        """Return when so many bytes may have been read; raise Stopped if nobody wants more."""
        now = time.monotonic()
        if self._rate > 0:
            self._next = max(self._next, now - 1) + count / self._rate
        if self._stop.wait(max(0.0, self._next - now) if self._rate > 0 else 0):
            raise Stopped
