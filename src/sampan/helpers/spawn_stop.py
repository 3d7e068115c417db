"""Ending a spawner that runs nothing. It imports little: every daemon that ends waits for it."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from sampan import rpc
from sampan.errors import SampanError
from sampan.runtime.spawner import Spawner
from sampan.runtime.spawning.finding import LOCK, PATIENCE, SOCKET, connect_spawner


def stop(run_root: Path) -> int:
    """End the spawner if it runs nothing; return 0 when none is left."""
    try:
        lock = os.open(run_root / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline or _runs_something(run_root):
                sys.stderr.write("the spawner goes on: containers run\n")
                return 1
            _ask_to_end(int(os.pread(lock, 32, 0) or b"0"))
            time.sleep(0.05)
        else:
            (run_root / SOCKET).unlink(missing_ok=True)
            os.close(lock)
            return 0


def _runs_something(run_root: Path) -> bool:
    try:
        with connect_spawner(run_root) as sock:
            spawner = rpc.connect(Spawner, sock, deadline=PATIENCE)  # type: ignore[type-abstract]
            tasks = spawner.tasks()
    except SampanError:
        return False  # it is about to end, or its forker is being replaced
    return any(task.state != "stopped" for task in tasks)


def _ask_to_end(pid: int) -> None:
    if pid > 1:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
