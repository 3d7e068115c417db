"""What a registry knows about its files, in a database: answers to questions, and one writer.

The layout says what exists (see `inventory.py`); rows follow it. Only what no file says lives here
alone: when a blob was last promised to somebody (`touched`), and read (`verified`). Queries are in
the SQL that SQLite and PostgreSQL share, with `?` or `?1` for values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]
ALL = 1 << 62  # a limit that is none


class DatabaseAway(OSError):
    """The database does not answer; trying again later may help."""


class Cursor(Protocol):
    """The answer to one query."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """A connection within a change."""

    def confirm(self) -> None:
        """Raise DatabaseAway if others may be changing the registry by now.

        Of files that are gone nothing can be undone: so this is asked right before.
        """

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Cursor: ...

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> object: ...


class Metadata(Protocol):
    """The database of a registry. Reads go on beside the one writer."""

    forget: Callable[[Set[str]], None]  # is told which lists a change makes wrong
    shared: bool  # other processes may change it too
    alone: bool  # none of them was there at the start, so the rows have to be compared with files

    def now(self) -> float:
        """Return the time that promises are counted by: the same for all who share the rows.

        In seconds since the epoch, as they were at the first start: it does not jump, and what
        passes between `note_time` and the next start does not count.
        """

    def note_time(self) -> None:
        """Have the next start go on from now, whatever the time of day is then."""

    def catch_up(self) -> None:
        """Believe the time of day, if it is later."""

    def ready(self) -> None:
        """Let others begin who wait for the rows to be right."""

    def change(self) -> AbstractContextManager[Database]:
        """Be the only one who changes the registry, its files too; undone if it raises."""

    def rows(self, query: str, *values: object) -> list[Row]:
        """Ask; the answer is that of the last change that ended."""

    def row(self, query: str, *values: object) -> Row | None:
        """Return the first row of an answer; None if there is none."""

    def hold(self, what: str) -> AbstractContextManager[bool]:
        """Keep something from other processes; tells whether that was possible."""

    def close(self) -> None:
        """Close all connections."""
