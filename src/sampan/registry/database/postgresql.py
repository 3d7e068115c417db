"""The database of a registry that is several processes, on one or many machines: PostgreSQL.

Changes are made one at a time, by whoever has the lock of the registry (an advisory lock, which
ends with its connection). Whoever is there holds another one, shared: who gets it alone is the
first, compares the rows with the files, and lets those in who wait. A connection that breaks is
made anew by the next who needs it; until that is possible they are told that the database is away.
"""

from __future__ import annotations

import errno
import functools
import logging
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from sampan.errors import Conflict, InvalidArgument
from sampan.registry.database.clock import TABLE, SteadyClock, noted
from sampan.registry.database.metadata import Cursor, Database, DatabaseAway, Row
from sampan.registry.database.schema import POSTGRESQL, SCHEMA_VERSION, TABLES
from sampan.registry.errors import RegistryError

log = logging.getLogger(__name__)
READERS = 8  # connections for questions; a server has a hundred for all
PRESENT, CHANGE, HELD = 0x53414D00, 0x53414D01, 0x53414D02  # kinds of our advisory locks
# A machine that is lost gives up its locks within a minute; who waits for one gives up as well.
# A server may crash under registries that go on, and nobody compares rows and files then.
_SETTINGS = """
SET synchronous_commit = on; SET lock_timeout = '60s'; SET client_min_messages = warning;
SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3
"""
_CONNECT = {"connect_timeout": 5, "tcp_user_timeout": 15_000, "application_name": "sampan-registry"}
_NUMBERED = re.compile(r"\?(\d*)")
_BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)
Connection = psycopg.Connection[Row]


class PostgresMetadata:
    """Rows in PostgreSQL."""

    shared = True

    def __init__(self, address: str, storage: str) -> None:
        """`address` is a URL or libpq's `key=value`; `storage` tells which files the rows are of.

        Raises InvalidArgument, and Conflict if others are there who work on other files.
        """
        try:
            psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.ProgrammingError:  # whose text would show what stands there, passwords too
            raise InvalidArgument("metadata.postgresql: it is no address of a database") from None
        self.forget: Callable[[Set[str]], None] = lambda subjects: None
        self._address = address
        self._lock = threading.RLock()
        self._changing: Database | None = None
        self._writer: Connection | None = None
        self._slots = threading.BoundedSemaphore(READERS)
        self._idle: list[Connection] = []
        self._holds_lock = threading.Lock()
        self._holder: Connection | None = None
        self._mark = 0
        self.alone = False
        try:
            self._enter(storage)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.ProgrammingError):
                raise InvalidArgument(f"metadata.postgresql: {error}") from error
            if isinstance(error, _BROKEN):
                raise _away(error) from error
            raise

    def _connect(self) -> Connection:
        try:
            connection = psycopg.connect(self._address, autocommit=True, **_CONNECT)  # type: ignore[arg-type]
        except psycopg.OperationalError as error:
            raise _away(error) from error
        try:
            connection.execute(_SETTINGS)
        except BaseException as error:
            _close(connection)
            if isinstance(error, _BROKEN):
                raise _away(error) from error
            raise
        return connection

    def now(self) -> float:
        """Return the time that was noted last, or the server's, and what has passed since."""
        return self._clock.now()

    def note_time(self) -> None:
        """Have the next start go on from now, and go on ourselves from what others have noted."""
        with self.change() as database:
            self._clock.note(database)

    def catch_up(self) -> None:
        """Believe the time of day, if it is later."""
        self._clock.advance(self._server_time())

    def _server_time(self) -> float:
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
        ((now,),) = self.rows(query)
        return float(now)

    # --- who is there

    def _enter(self, storage: str) -> None:
        connection = self._writer = self._connect()
        (schema,) = connection.execute("SELECT current_schema()").fetchone() or ("",)
        self._mark = _number(str(schema))
        self.alone = self._lock_of(connection, "pg_try_advisory_lock", PRESENT, self._mark)
        if not self.alone:
            # Whoever is alone now may compare rows and files for a long time.
            connection.execute("SET lock_timeout = 0")
            connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (PRESENT, self._mark))
            connection.execute("SET lock_timeout = '60s'")
        with self.change() as database:
            if not database.execute("SELECT to_regclass('clock')").fetchone()[0]:
                database.execute(TABLE)
            self._tables(database, storage)
            known = noted(database)
        # What others have noted is also what they count by, give or take a note.
        self._clock = SteadyClock(self._server_time() if known is None else known)

    def _tables(self, database: Database, storage: str) -> None:
        """Make the tables; those of another version are thrown away, for files say it all."""
        found = database.execute("SELECT to_regclass('sampan') IS NOT NULL").fetchone()
        row = None
        if found[0]:
            row = database.execute("SELECT version, storage FROM sampan").fetchone()
        if row == (SCHEMA_VERSION, storage):
            return
        if not self.alone:
            if row and row[0] == SCHEMA_VERSION:
                raise Conflict("metadata.postgresql: registries on other files use this database")
            raise Conflict("metadata.postgresql: registries of another version use this database")
        for table in (*TABLES, "sampan"):
            database.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
        database.execute(POSTGRESQL)
        database.execute("CREATE TABLE sampan (version integer, storage text)")
        database.execute("INSERT INTO sampan VALUES (?, ?)", (SCHEMA_VERSION, storage))

    def ready(self) -> None:
        """Let others begin who wait for the rows to be right."""
        if self.alone and self._writer:
            place = (PRESENT, self._mark)
            self._writer.execute("SELECT pg_advisory_lock_shared(%s, %s)", place)
            self._writer.execute("SELECT pg_advisory_unlock(%s, %s)", place)

    @staticmethod
    def _lock_of(connection: Connection, function: str, kind: int, number: int) -> bool:
        query = f"SELECT {function}(%s, %s)"
        (got,) = connection.execute(query, (kind, number)).fetchone() or (False,)
        return bool(got)

    # --- changes

    @contextmanager
    def change(self) -> Iterator[Database]:
        """Be the only one who changes the registry, its files too; undone if it raises."""
        with self._lock:
            if self._changing is not None:  # this thread is within a change already
                yield self._changing
                return
            connection = self._begin()
            self._changing = Changing(connection)
            try:
                yield self._changing
                self._changing.execute("COMMIT")
            except BaseException:
                self._undo(connection)
                raise
            finally:
                self._changing = None

    def _begin(self) -> Connection:
        """Begin a change, on a new connection if the old one is broken."""
        place = (CHANGE, self._mark)
        for last in (False, True):
            fresh = self._writer is None
            connection = self._writer or self._connect()
            try:
                if fresh and self._mark:
                    where = (PRESENT, self._mark)
                    connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", where)
                connection.execute("BEGIN")
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", place)
            except _BROKEN as error:
                _close(connection)
                self._writer = None
                if last or fresh:
                    raise _away(error) from error
            else:
                self._writer = connection
                return connection
        raise AssertionError

    def _undo(self, connection: Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            _close(connection)
            self._writer = None

    # --- questions

    def rows(self, query: str, *values: object) -> list[Row]:
        """Ask; the answer is that of the last change that ended."""
        with self._slots:
            for _ in range(READERS + 1):
                known = bool(self._idle)
                try:
                    connection = self._idle.pop()
                except IndexError:
                    connection = self._connect()
                try:
                    found = _ask(connection, query, values).fetchall()
                except DatabaseAway:
                    _close(connection)
                    if not known:  # it was made just now
                        raise
                except BaseException:
                    _close(connection)
                    raise
                else:
                    self._idle.append(connection)
                    return found
        raise DatabaseAway("every connection breaks")

    def row(self, query: str, *values: object) -> Row | None:
        """Return the first row of an answer; None if there is none."""
        found = self.rows(query, *values)
        return found[0] if found else None

    # --- what only one may do

    @contextmanager
    def hold(self, what: str) -> Iterator[bool]:
        """Keep something from other processes; tells whether that was possible."""
        number = _number(f"{self._mark} {what}")
        with self._holds_lock:
            connection = self._held_on()
            got = self._try(connection, number)
        try:
            yield got
        finally:
            if got:
                with self._holds_lock, suppress(psycopg.Error):
                    if connection is self._holder:  # else the lock has ended with its connection
                        self._lock_of(connection, "pg_advisory_unlock", HELD, number)

    def _held_on(self) -> Connection:
        if self._holder is None:
            self._holder = self._connect()
        return self._holder

    def _try(self, connection: Connection, number: int) -> bool:
        try:
            return self._lock_of(connection, "pg_try_advisory_lock", HELD, number)
        except _BROKEN:
            _close(connection)
            self._holder = None
        connection = self._held_on()
        try:
            return self._lock_of(connection, "pg_try_advisory_lock", HELD, number)
        except _BROKEN as error:
            _close(connection)
            self._holder = None
            raise _away(error) from error

    def close(self) -> None:
        """Close all connections, of whatever thread."""
        with self._lock, self._holds_lock:
            for connection in (self._writer, self._holder, *self._idle):
                if connection is not None:
                    _close(connection)
            self._writer = self._holder = None
            self._idle.clear()


class Changing:
    """A connection within a change."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def confirm(self) -> None:
        """Raise DatabaseAway if the lock has ended with its connection."""
        self.execute("SELECT 1")

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Cursor:
        return _ask(self._connection, query, values)

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> object:
        text, order = translated(query)
        with _told(), self._connection.cursor() as cursor:
            cursor.executemany(text, [_ordered(row, order) for row in rows])
        return None


def _ask(connection: Connection, query: str, values: Sequence[Any]) -> psycopg.Cursor[Row]:
    text, order = translated(query)
    with _told():
        if not values:
            return connection.execute(text.replace("%%", "%"))
        return connection.execute(text, _ordered(values, order))


@contextmanager
def _told() -> Iterator[None]:
    """Raise what callers understand."""
    try:
        yield
    except (*_BROKEN, psycopg.InternalError) as error:  # also: it takes no changes, being a replica
        raise _away(error) from error
    except psycopg.DataError as error:
        # PostgreSQL's texts hold everything but zero bytes.
        raise RegistryError(
            "UNSUPPORTED", message=f"this text cannot be kept: {error}", status=400
        ) from error


@functools.lru_cache(maxsize=512)
def translated(query: str) -> tuple[str, tuple[int, ...]]:
    """Return a query as psycopg wants it, and which values belong to its places, if they have
    numbers."""
    order: list[int] = []

    def place(match: re.Match[str]) -> str:
        if match[1]:
            order.append(int(match[1]) - 1)
        return "%s"

    return _NUMBERED.sub(place, query.replace("%", "%%")), tuple(order)


def _ordered(values: Sequence[Any], order: tuple[int, ...]) -> Sequence[Any]:
    return [values[number] for number in order] if order else values


def _number(text: str) -> int:
    """Return a signed number of 32 bits for a name."""
    return zlib.crc32(text.encode()) - (1 << 31)


def _away(error: Exception) -> DatabaseAway:
    away = DatabaseAway(str(error).partition("\n")[0])
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        away.errno = errno.EROFS  # who only reads can go on
    return away


def _close(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.close()
