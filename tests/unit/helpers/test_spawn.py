"""The life of a spawner, as far as it needs no privileges."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from sampan.helpers import spawn_start, spawn_stop
from sampan.runtime.spawning.finding import LOCK


def test_nobody_gets_the_signal_that_was_meant_for_a_spawner_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the next one starts, the process that has the old one's number now is left alone."""
    monkeypatch.setattr(spawn_stop, "PATIENCE", 0.2)
    path = tmp_path / LOCK
    with subprocess.Popen(["sleep", "1000"]) as other:
        path.write_text(f"{other.pid:<10}\n")
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            assert spawn_start._take_lock(lock, tmp_path)
            assert spawn_stop.stop(tmp_path) == 1
            assert other.poll() is None
        finally:
            os.close(lock)
            other.kill()
    assert other.returncode == -signal.SIGKILL
