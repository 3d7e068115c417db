"""Who else works on a bucket: each registry leaves a note there, and renews it as long as it lives.

Rows are a registry's own, so it does not know what clients of another have pushed or were promised.
So nobody may collect garbage who is not alone.
"""

from __future__ import annotations

import errno
import logging
import re
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from sampan.registry.drivers.driver import ANYHOW, Driver

log = logging.getLogger(__name__)
FOLDER = "sampan/registries"
BEAT_SECONDS = 60.0
DEAD_SECONDS = 5 * BEAT_SECONDS  # without a beat


def own_name(path: Path) -> str:
    """Return the name that a registry has in its notes, which is kept in a file.

    So the note of one that was killed is that of the next on the same state.
    """
    try:
        kept = path.read_text("ascii").strip()
    except FileNotFoundError:
        kept = ""
    if not re.fullmatch(r"[\w.-]{1,128}", kept, re.ASCII):
        host = re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)
        kept = f"{host[:64]}-{secrets.token_hex(8)}"
        path.write_text(f"{kept}\n", "ascii")
    return kept


class Presence:
    """Our note in a bucket."""

    def __init__(self, driver: Driver, name: str) -> None:
        self.name = name
        self._driver = driver
        self._ends = threading.Event()
        self._storage_time: tuple[float, float] | None = None  # as it was at a time of ours
        self._doubt_until = 0.0
        self._thread = threading.Thread(target=self._live, name="presence", daemon=True)

    def _beat(self) -> None:
        self._driver.write([(f"{FOLDER}/{self.name}", self.name.encode())])

    def _live(self) -> None:
        while not self._ends.wait(BEAT_SECONDS):
            try:
                self._beat()
            except OSError as error:
                log.warning("other registries are not told of this one: %s", error)

    def others(self) -> list[str]:
        """Return the names of those who live. Times are the storage's, by its own clock."""
        self._beat()
        found = {}
        for name in self._driver.list(FOLDER):
            try:
                found[name] = self._driver.modified(f"{FOLDER}/{name}")
            except FileNotFoundError:
                continue  # it has just ended
        now = found.pop(self.name)
        if self._is_doubtful(now):
            return sorted(found)
        dead = [name for name, beat in found.items() if now - beat > DEAD_SECONDS]
        self._driver.delete([f"{FOLDER}/{name}" for name in dead], within=ANYHOW)
        return sorted(found.keys() - dead)

    def storage_time(self) -> float:
        """Return the storage's time of day, in seconds since the epoch, as we were told last."""
        if self._storage_time is None:
            return time.time()
        told, ours = self._storage_time
        return told + time.monotonic() - ours

    def _is_doubtful(self, now: float) -> bool:
        """Tell whether the storage's clock has jumped: then all notes look old until the next."""
        ours = time.monotonic()
        before, begun = self._storage_time or (now, ours)
        if abs((now - before) - (ours - begun)) > BEAT_SECONDS:
            self._doubt_until = ours + DEAD_SECONDS
            before, begun = now, ours
        self._storage_time = before, begun
        return ours < self._doubt_until

    def demand_alone(self) -> None:
        """Raise OSError if another registry works here."""
        if others := self.others():
            raise OSError(
                errno.EBUSY, f"another registry works on the same storage: {', '.join(others)}"
            )

    def __enter__(self) -> Self:
        self._beat()
        with suppress(FileNotFoundError):
            self._is_doubtful(self._driver.modified(f"{FOLDER}/{self.name}"))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        try:
            self._driver.delete([f"{FOLDER}/{self.name}"], within=ANYHOW)
        except OSError as error:  # it counts as dead in a while
            log.warning("other registries are not told that this one has ended: %s", error)
