"""A clock for promises: the time of day may jump, and no promise must end by that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.registry.database.metadata import Database

NOTE_SECONDS = 30.0  # between two notes of what time it is
# Not among the tables that a new version makes anew: the time goes on.
TABLE = "CREATE TABLE IF NOT EXISTS clock (moment DOUBLE PRECISION NOT NULL)"


class SteadyClock:
    """Seconds since the epoch, as they were known once, and counted from there.

    Whoever sets the machine's clock, or corrects it, does not change it. Also counts while the
    machine sleeps.
    """

    def __init__(self, now: float) -> None:
        self._offset = now - _counted()

    def now(self) -> float:
        """Return the time."""
        return self._offset + _counted()

    def advance(self, now: float) -> None:
        """Go on from a later time; an earlier one changes nothing."""
        self._offset = max(self._offset, now - _counted())

    def note(self, database: Database) -> None:
        """Write down what time it is, for the next start; take over from others who are ahead."""
        self.advance(noted(database) or 0.0)
        database.execute("DELETE FROM clock")
        database.execute("INSERT INTO clock VALUES (?)", (self.now(),))


def noted(database: Database) -> float | None:
    """Return the latest time that was written down; None if nobody ever did."""
    (found,) = database.execute("SELECT max(moment) FROM clock").fetchone()
    return None if found is None else float(found)


def _counted() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
