"""A machine's clock that is set while programs run: Debian's libfaketime, told by a file.

with machine_clock() as clock, registry(program=OURS) as hub:
    clock.set(YEAR)  # every process that was started within is a year ahead now
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.session import scratch

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
NEEDS_CLOCK = pytest.mark.skipif(_LIBRARY is None, reason="apt-get install libfaketime")


class MachineClock:
    """The time of day of some processes; what counts seconds since the start goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, ahead: float) -> None:
        """Be so many seconds ahead of the real time, from now on."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{ahead:+.0f}\n")
        os.rename(new, self._path)

    def environment(self) -> dict[str, str]:
        """Return what makes a process obey."""
        return {
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    @contextlib.contextmanager
    def over_new_processes(self) -> Iterator[None]:
        """Be the clock of the processes that are started meanwhile."""
        with pytest.MonkeyPatch.context() as patched:
            for name, value in self.environment().items():
                patched.setenv(name, value)
            yield


@contextlib.contextmanager
def machine_clock() -> Iterator[MachineClock]:
    """Make a clock, which is right at first."""
    folder = scratch()
    try:
        yield MachineClock(folder / "ahead")
    finally:
        shutil.rmtree(folder)
