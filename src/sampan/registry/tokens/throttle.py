"""Failed logins, counted: whoever guesses has to wait, and others hardly notice.

Each name from one address has some attempts, and each address some more; both come back with time.
A success forgets the failures of that name. Counts are in memory: a restart forgets them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from sampan.http.peers import owner

REMEMBERED = 10_000  # names and addresses; the oldest failure is forgotten first


@dataclass(frozen=True)
class Attempts:
    """How many failures are free, and how many seconds one more costs."""

    free: int
    seconds: float


class Throttle:
    """Decides whether a password is looked at."""

    def __init__(self, each_name: Attempts, each_address: Attempts) -> None:
        self._limits = {"name": each_name, "address": each_address}
        self._lock = threading.Lock()
        # Key → when the last failure counted, and how many count still.
        self._failures: OrderedDict[tuple[str, str, str], tuple[float, float]] = OrderedDict()

    def wait(self, name: str, address: str) -> float:
        """Return how many seconds a client has to wait before it may try; 0: not at all."""
        now = time.monotonic()
        with self._lock:
            waits = []
            for key in self._keys(name, address):
                limit = self._limits[key[0]]
                over = self._count(key, now) - (limit.free - 1)
                waits.append(over * limit.seconds)
        return max(0.0, *waits)

    def failed(self, name: str, address: str) -> None:
        """Count a failure."""
        now = time.monotonic()
        with self._lock:
            for key in self._keys(name, address):
                self._failures[key] = (now, self._count(key, now) + 1)
                self._failures.move_to_end(key)
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name; those of the address stay."""
        with self._lock:
            self._failures.pop(("name", name, owner(address)), None)

    def _keys(self, name: str, address: str) -> list[tuple[str, str, str]]:
        address = owner(address)
        names = [("name", name, address)] if name else []
        return [*names, ("address", "", address)]

    def _count(self, key: tuple[str, str, str], now: float) -> float:
        then, count = self._failures.get(key, (now, 0.0))
        return max(0.0, count - (now - then) / self._limits[key[0]].seconds)
