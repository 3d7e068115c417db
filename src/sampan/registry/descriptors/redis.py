"""Descriptors in a Redis that docker-registry reads: written, and above all taken away.

docker-registry keeps them without an end, and believes them: it answers with a blob that is gone,
and takes no content that it believes to have. So what is removed here is owed a removal there, by
rows that triggers write (`schema.py`), in the same change. One thread makes the server say what the
rows say, whatever the order in which it hears of changes. It pays every debt twice, the second time
a while later: docker-registry may have looked at the storage just before the change.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from sampan.registry.database.metadata import Metadata
from sampan.registry.descriptors import keys
from sampan.registry.descriptors.descriptors import owe
from sampan.registry.descriptors.figures import Figures
from sampan.registry.descriptors.server import Server, connect, look, runs
from sampan.registry.descriptors.sweep import Sweep
from sampan.registry.drivers.driver import Driver
from sampan.spec.digest import Digest

log = logging.getLogger(__name__)
SETTLE_SECONDS = 1.0  # for which a removal waits at most
LOOK_SECONDS = 5.0  # between looks at the server, and for debts that others have made
AGAIN_SECONDS = 60.0  # between the first and the second payment
SWEEP_SECONDS = 24 * 3600.0
LONGEST_PAUSE = 30.0  # while the server is away
CLOSE_SECONDS = 5.0
BATCH = 200
TOLD = 10_000  # pushes that wait to be told; more are not
_DEBTS = "SELECT repository, digest, due FROM owed WHERE due <= ? ORDER BY due LIMIT ?"
_PAID = "WHERE repository = ? AND digest = ? AND due = ?"  # else it is owed once more
Debt = tuple[str, str, float]


class RedisDescriptors:
    """Tells one server, in a thread of its own."""

    def __init__(self, metadata: Metadata, driver: Driver, server: Server) -> None:
        """Raises InvalidArgument if redis-py is missing or the server's files cannot be read."""
        self.figures = Figures()
        self._metadata = metadata
        self._driver = driver
        self._server = server
        self._life = ExitStack()
        self._client: Any = None
        self._told: dict[tuple[str, str], None] = {}
        self._state = threading.Condition()
        self._asked = self._done = 0  # payments
        self._slow = False
        self._stopped = False
        self._pause = 0.0
        self._looked = -LOOK_SECONDS  # when, at which run of the server this is
        self._run = ""
        self._storage_failed = False
        self._failures = self._prepare()
        owe(metadata, server.place)
        self._thread = threading.Thread(target=self._work, name="redis", daemon=True)
        self._thread.start()

    def _prepare(self) -> tuple[type[Exception], type[Exception]]:
        """Look whether redis-py and the files are there; return its errors: any, and refusals."""
        look(self._server)
        from redis.exceptions import RedisError, ResponseError

        return RedisError, ResponseError

    # --- for those who change the registry

    def tell(self, repository: str, digest: str) -> None:
        """Say that something is new; see Descriptors."""
        with self._state:
            if not self.figures.away and len(self._told) < TOLD:
                self._told[repository, digest] = None
                self._state.notify_all()

    def settle(self) -> None:
        """Wait until debts are paid, if they can be now; see Descriptors."""
        with self._state:
            self._asked += 1
            mine = self._asked
            self._state.notify_all()
            if self.figures.away or self._slow:
                return
            self._slow = not self._state.wait_for(
                lambda: self._done >= mine or self.figures.away or self._stopped, SETTLE_SECONDS
            )

    def close(self) -> None:
        """End, if possible with nothing owed."""
        with self._state:
            self._stopped = True
            self._state.notify_all()
        self._thread.join(CLOSE_SECONDS)
        self._life.close()  # which ends what a thread still waits for
        self._thread.join(CLOSE_SECONDS)

    # --- the thread

    def _work(self) -> None:
        while True:
            try:
                with self._failing():
                    self._round()
                    self._back()
            except Exception:
                log.exception("descriptors in redis are not looked after for a while")
                self._away("a bug, which is in the log")
            with self._state:
                if not self._stopped:
                    self._state.wait_for(self._has_work, self._pause or LOOK_SECONDS)
                elif self.figures.away or self._storage_failed or not self._is_asked():
                    return

    def _has_work(self) -> bool:
        if self._stopped or self.figures.away:  # then only time helps
            return self._stopped
        return self._is_asked()

    def _is_asked(self) -> bool:
        return bool(self._told) or self._done < self._asked

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Bear failures: of the server, which is then away, and of the storage and the rows."""
        try:
            yield
        except self._failures[0] as error:
            self._away(_reason(error))
        except (OSError, sqlite3.Error) as error:
            if not self._storage_failed:
                log.warning("descriptors in redis have to wait for the storage: %s", error)
            self._storage_failed = True
            self._pause = LOOK_SECONDS
            with self._state:
                self._done = self._asked  # nobody waits for it
                self._state.notify_all()
        else:
            self._storage_failed = False

    def _away(self, reason: str) -> None:
        """Note that the server cannot be used, and say so once."""
        self.figures.failures += 1
        if not self.figures.away:
            log.warning("redis is left alone until it answers again: %s", reason)
        self._pause = min(max(1.0, self._pause * 2), LONGEST_PAUSE)
        self._looked = -LOOK_SECONDS  # it may come back as another one
        with self._state:
            self.figures.away = reason
            self._told.clear()
            self._state.notify_all()
        if self._client is not None:
            self._life.close()
            self._client = None

    def _back(self) -> None:
        self._pause = 0.0
        if self.figures.away:
            log.info("redis answers again")
            with self._state:
                self.figures.away = ""

    def _round(self) -> None:
        self._count()
        if self._client is None:
            self._client = connect(self._server, self._life)
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._run = runs(self._client)
            self._looked = time.monotonic()
        self._pay_and_tell()
        if self._is_dusty() and not self._stopped:
            self._sweep()

    def _pay_and_tell(self) -> None:
        with self._state:
            asked = self._asked
        while debts := self._metadata.rows(_DEBTS, self._metadata.now(), BATCH):
            self._settle([(repository, digest) for repository, digest, _ in debts])
            self._note(debts)
        self._count()
        with self._state:
            self._done = asked
            self._slow = False
            told = [self._told.popitem()[0] for _ in range(min(len(self._told), BATCH))]
            self._state.notify_all()
        if told:
            self._settle(told)

    def _note(self, debts: Sequence[Debt]) -> None:
        """Note what is paid: once, or for good."""
        later = self._metadata.now() + AGAIN_SECONDS
        with self._metadata.change() as database:
            database.executemany(
                f"UPDATE owed SET due = ? {_PAID} AND due = 0",  # noqa: S608 our own text
                [(later, *debt) for debt in debts if not debt[2]],
            )
            database.executemany(f"DELETE FROM owed {_PAID}", [debt for debt in debts if debt[2]])  # noqa: S608

    def _count(self) -> None:
        ((self.figures.owed,),) = self._metadata.rows("SELECT count(*) FROM owed WHERE due = 0")

    # --- the server

    def _settle(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Make the server say what the rows say, of digests in repositories."""
        states = [self._state_of(repository, Digest(digest)) for repository, digest in pairs]
        self._remove(states)
        if self._add(states):
            # Other registries may have changed the rows since, and their removal came before.
            self._remove([self._state_of(state.repository, state.digest) for state in states])

    def _state_of(self, repository: str, digest: Digest) -> keys.State:
        row = self._metadata.row("SELECT size FROM blobs WHERE digest = ?", digest)
        query = "SELECT 1 FROM links WHERE repository = ? AND digest = ?"
        linked = bool(repository) and self._metadata.row(query, repository, digest) is not None
        return keys.State(repository, digest, row[0] if row else None, linked)

    def _remove(self, states: Iterable[keys.State]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            count = keys.removals(pipeline, states)
            if count:
                pipeline.execute()
        self.figures.removed += count

    def _add(self, states: Iterable[keys.State]) -> bool:
        """Write what is there; tell whether anything was. A server that is full takes nothing."""
        with self._client.pipeline(transaction=False) as pipeline:
            count = keys.additions(pipeline, states)
            if not count:
                return False
            try:
                pipeline.execute()
            except self._failures[1] as error:
                if not self.figures.refused:
                    log.warning("redis takes no descriptors: %s", _reason(error))
                self.figures.refused = _reason(error)
                return True  # some, perhaps
        self.figures.refused = ""
        self.figures.written += count
        return True

    # --- all of it

    def _is_dusty(self) -> bool:
        row = self._metadata.row(
            "SELECT run, swept FROM described WHERE place = ?", self._server.place
        )
        run, swept = row or ("", 0.0)
        return bool(run != self._run or abs(self._metadata.now() - swept) > SWEEP_SECONDS)

    def _sweep(self) -> None:
        """Look through the whole server, unless another registry is at it."""
        place = self._server.place
        with self._metadata.hold(f"sweep {place}") as got:
            if not got:
                return
            begun, run, count = self._metadata.now(), self._run, 0
            for removed in Sweep(self._client, self._driver, self._metadata).steps():
                count += removed
                self.figures.removed += removed
                self._pay_and_tell()
                if self._stopped:
                    return
            with self._metadata.change() as database:
                database.execute(
                    "INSERT INTO described VALUES (?, ?, ?) ON CONFLICT (place)"
                    " DO UPDATE SET run = excluded.run, swept = excluded.swept",
                    (place, run, begun),
                )
        if count:
            log.info("%d descriptors in redis were about nothing, and are removed", count)


def _reason(error: Exception) -> str:
    """Return what went wrong, in one line."""
    return str(error).partition("\n")[0] or type(error).__name__
