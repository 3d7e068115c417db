"""Daemons that are told to end before they have started: at each moment nothing of them is left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

MOMENTS: dict[str, Callable[[Daemon], Path]] = {
    "data root claimed": lambda daemon: daemon.data_root / "lock",
    "pid file written": lambda daemon: daemon.folder / "pid",
    "exec root claimed": lambda daemon: daemon.folder / "exec/lock",
    "network claimed": lambda daemon: daemon.claim,
    "socket opened": lambda daemon: Path(daemon.socket),
    "spawner opened": lambda daemon: daemon.folder / "exec/spawner.sock",
}


@pytest.fixture(scope="module")
def stopped() -> Iterator[Daemon]:
    with running() as daemon:
        daemon.stop()
        yield daemon
        daemon.start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_daemon_that_is_told_to_end_while_it_starts_leaves_nothing(
    stopped: Daemon, moment: str, number: signal.Signals
) -> None:
    made = MOMENTS[moment](stopped)
    before = {path: path.exists() for path in (each(stopped) for each in MOMENTS.values())}
    assert not any(before.values())
    with stopped.launch() as process:
        while not made.exists():
            assert process.poll() is None, stopped.log
        process.send_signal(number)
        process.wait(PATIENCE)
    stopped.process = None
    assert [path for path in before if path.exists()] == []
    eventually(lambda: not stopped.processes())
