"""Health checks: when they run, what they say, and what it means."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.containers import health as module
from sampan.engine.containers.container import Container
from sampan.engine.containers.execs import Execs
from sampan.engine.containers.health import (
    OUTPUT_BYTES,
    Check,
    HealthChecks,
    Output,
    check_of,
    note,
    shown_duration,
)
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.notices import Notices
from sampan.engine.events import Events
from sampan.engine.oci.specification import Specifications
from sampan.engine.tasks import Tasks
from sampan.logs.stream import STDOUT, frame
from sampan.spec.docker.config import Config
from sampan.spec.docker.containers import Health, HealthcheckResult
from sampan.spec.image import Healthcheck
from tests.session import PATIENCE
from tests.unit.engine.fakes import FakeSpawner, container

MS = 10**6


@pytest.fixture
def spawner() -> Iterator[FakeSpawner]:
    made = FakeSpawner()
    yield made
    made.close()


def result(code: int) -> HealthcheckResult:
    return HealthcheckResult(start="", end="", exit_code=code, output="")


def check(**values: int) -> Check:
    defaults = {"interval": 1, "timeout": 1, "start_period": 0, "start_interval": 1, "retries": 2}
    return Check(command=["true"], **{**defaults, **values})


def test_a_success_is_healthy_and_so_many_failures_are_not() -> None:
    health = Health()
    note(health, check(), result(0), 0)
    assert health.status == "healthy"
    note(health, check(), result(1), 0)
    assert (health.status, health.failing_streak) == ("healthy", 1)
    note(health, check(), result(1), 0)
    assert health.status == "unhealthy"
    note(health, check(), result(0), 0)
    assert (health.status, health.failing_streak) == ("healthy", 0)


def test_failures_in_the_start_period_do_not_count() -> None:
    health = Health()
    note(health, check(start_period=100), result(1), 99)
    assert (health.status, health.failing_streak) == ("starting", 0)
    note(health, check(start_period=100), result(1), 100)
    assert health.failing_streak == 1


def test_the_last_five_results_are_kept() -> None:
    health = Health()
    for code in range(7):
        note(health, check(), result(code), 0)
    assert [each.exit_code for each in health.log] == [2, 3, 4, 5, 6]


def test_a_shell_check_is_run_by_the_container_s_shell() -> None:
    wanted = Healthcheck(test=["CMD-SHELL", "curl x || exit 1"])
    found = check_of(container(Config(healthcheck=wanted, shell=["/bin/ash", "-c"])))
    assert found
    assert found.command == ["/bin/ash", "-c", "curl x || exit 1"]
    assert found.retries == 3


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["CMD"], ["ODD", "x"]])
def test_no_check_is_no_check(test: list[str] | None) -> None:
    assert check_of(container(Config(healthcheck=Healthcheck(test=test)))) is None


def test_output_is_cut_with_three_dots() -> None:
    output = Output()
    output.feed(frame(STDOUT, b"x" * (OUTPUT_BYTES + 1)))
    assert output.text == "x" * OUTPUT_BYTES + "..."


def test_durations_are_shown_as_go_does() -> None:
    shown = [shown_duration(value * MS) for value in (250, 1500, 30_000, 90_000, 3_600_000)]
    assert shown == ["250ms", "1.5s", "30s", "1m30s", "1h0m0s"]


async def probed(spawner: FakeSpawner, made: Container, wanted: int) -> list[str]:
    """Run the health checks of a container until `wanted` results are there."""
    events, tasks, table = Events(), Tasks(), Table()
    table.add(made)
    execs = Execs(table, spawner, Specifications(Path("/data")), events, tasks)
    checks = HealthChecks(execs, Notices(events), tasks, spawner)
    heard = events.subscribe(filters={"event": ["health_status"]})
    checks.start(made)
    assert made.health
    async with asyncio.timeout(PATIENCE):
        while len(made.health.log) < wanted:
            await asyncio.sleep(0.005)
    changes = [(await anext(heard)).action]  # type: ignore[arg-type]
    checks.stop(made)
    await tasks.close()
    return changes


def with_check(*command: str, timeout: int = 60_000) -> Container:
    wanted = Healthcheck(test=["CMD", *command], interval=5 * MS, timeout=timeout * MS, retries=1)
    return container(Config(healthcheck=wanted), running=True)


def test_a_running_container_is_asked_again_and_again(spawner: FakeSpawner) -> None:
    made = with_check("echo", "fine")
    assert asyncio.run(probed(spawner, made, 2)) == ["health_status: healthy"]
    assert made.health
    assert [(each.exit_code, each.output) for each in made.health.log[:2]] == [(0, "fine\n")] * 2


def test_a_check_that_takes_too_long_is_killed(spawner: FakeSpawner) -> None:
    made = with_check("sleep", "60", timeout=50)
    assert asyncio.run(probed(spawner, made, 1)) == ["health_status: unhealthy"]
    assert made.health
    assert made.health.log[0].exit_code == -1
    assert made.health.log[0].output == "Health check exceeded timeout (50ms)"
    assert [number for _, number in spawner.signals] == [9]


def test_a_probe_that_prints_without_a_pause_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 100
    monkeypatch.setattr(module, "_READ", 1)

    async def work() -> int:
        near, far = socket.socketpair()
        with near, far:
            far.send(bytes(count))
            far.shutdown(socket.SHUT_WR)
            reading = asyncio.create_task(module._read(near, lambda data: None))
            turns = 0
            while not reading.done():
                turns += 1
                await asyncio.sleep(0)
        return turns

    assert asyncio.run(work()) >= count
