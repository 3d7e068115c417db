"""Health checks: a program in the container that is asked again and again.

Source: moby daemon/health.go.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.execs import Exec, Execs
from sampan.engine.containers.notices import Notices
from sampan.engine.tasks import Tasks
from sampan.errors import SampanError
from sampan.logs.stream import FrameReader
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.containers import Health, HealthcheckResult
from sampan.spec.image import Healthcheck, timestamp

log = logging.getLogger(__name__)

SECOND: Final = 10**9
INTERVAL, TIMEOUT, START_INTERVAL, RETRIES = 30 * SECOND, 30 * SECOND, 5 * SECOND, 3
LOG_ENTRIES: Final = 5
_READ: Final = 64 << 10
OUTPUT_BYTES: Final = 4096
KILL_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Check:
    """A health check with its defaults filled in; times in nanoseconds."""

    command: list[str]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int


def check_of(container: Container) -> Check | None:
    """Return the health check of a container; None if it has none, or NONE."""
    wanted = container.config.healthcheck
    if not isinstance(wanted, Healthcheck) or not wanted.test or len(wanted.test) < 2:
        return None
    kind, *command = wanted.test
    if kind == "CMD-SHELL":
        command = [*(container.config.shell or ("/bin/sh", "-c")), *command]
    elif kind != "CMD":
        return None
    return Check(
        command=command,
        interval=wanted.interval or INTERVAL,
        timeout=wanted.timeout or TIMEOUT,
        start_period=wanted.start_period,
        start_interval=wanted.start_interval or START_INTERVAL,
        retries=wanted.retries if wanted.retries > 0 else RETRIES,
    )


class HealthChecks:
    """Probes the containers that ask for it, each in a task of its own."""

    def __init__(
        self, execs: Execs, notices: Notices, tasks: Tasks, spawner: Spawner | None = None
    ) -> None:
        self._execs, self._notices, self._tasks = execs, notices, tasks
        self._spawner = spawner

    def start(self, container: Container, *, resumed: bool = False) -> None:
        """Begin with a container that has been started or found running.

        One that is `resumed` after a pause keeps its status.
        """
        check = check_of(container)
        if check is None or container.probes:
            return
        if container.health is None or not resumed:
            container.health = Health(log=container.health.log if container.health else [])
        work = self._watch(container, check, container.health)
        container.probes = self._tasks.spawn(work, f"health of {container.short_id}")

    def stop(self, container: Container) -> None:
        """End the probes of a container; what they have found stays."""
        if container.probes:
            container.probes.cancel()
            container.probes = None

    async def _watch(self, container: Container, check: Check, health: Health) -> None:
        while True:
            await asyncio.sleep(self._pause(container, check, health) / SECOND)
            result, started = await self._probe(container, check)
            if not container.running or container.record.paused:
                return
            before = health.status
            note(health, check, result, started - container.record.started_at)
            if health.status != before:
                self._notices.container(container, f"health_status: {health.status}")

    def _pause(self, container: Container, check: Check, health: Health) -> int:
        age = time.time_ns() - container.record.started_at
        early = age < check.start_period and health.status == "starting"
        return check.start_interval if early else check.interval

    async def _probe(self, container: Container, check: Check) -> tuple[HealthcheckResult, int]:
        started = time.time_ns()
        try:
            code, output = await self._run(container, check)
        except SampanError as error:
            code, output = -1, str(error)
        return HealthcheckResult(
            start=timestamp(started),
            end=timestamp(time.time_ns()),
            exit_code=code,
            output=output,
        ), started

    async def _run(self, container: Container, check: Check) -> tuple[int, str]:
        execution, sock = await self._execs.run(container, check.command)
        output = Output()
        reading = asyncio.ensure_future(_read(sock, output.feed))
        try:
            async with asyncio.timeout(check.timeout / SECOND):
                await execution.ended.wait()
                await reading
        except TimeoutError:
            await self._kill(execution)
            message = f"Health check exceeded timeout ({shown_duration(check.timeout)})"
            return -1, f"{message}: {output.text}" if output.text else message
        except asyncio.CancelledError:
            await asyncio.shield(self._kill(execution))
            raise
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            sock.close()
        return (-1 if execution.exit_code is None else execution.exit_code), output.text

    async def _kill(self, execution: Exec) -> None:
        """End a probe that takes too long."""
        if self._spawner is None or not execution.running:
            return
        try:
            await blocking(
                self._spawner.signal, execution.container.id, execution.id, signal=9, all=False
            )
            async with asyncio.timeout(KILL_SECONDS):
                await execution.ended.wait()
        except (SampanError, TimeoutError) as error:
            log.warning("a health check of %s goes on: %s", execution.container.short_id, error)


def note(health: Health, check: Check, result: HealthcheckResult, age: int) -> None:
    """Add a result to what is known; `age` is that of the container when the probe began."""
    health.log = [*health.log, result][-LOG_ENTRIES:]
    if result.exit_code == 0:
        health.failing_streak, health.status = 0, "healthy"
    elif health.status != "starting" or age >= check.start_period:
        health.failing_streak += 1
        if health.failing_streak >= check.retries:
            health.status = "unhealthy"


class Output:
    """The first bytes of what a probe prints."""

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._kept = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Add what came from the process."""
        for _, payload in self._frames.feed(data):
            room = OUTPUT_BYTES - len(self._kept)
            self._kept += payload[:room]
            self._lost = self._lost or len(payload) > room

    @property
    def text(self) -> str:
        """What was printed; "..." stands for the rest."""
        return self._kept.decode("utf-8", "replace") + ("..." if self._lost else "")


async def _read(sock: socket.socket, feed: Callable[[bytes], None]) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    try:
        while data := await loop.sock_recv(sock, _READ):
            feed(data)
            await asyncio.sleep(0)  # also a probe that prints without a pause has an end in time
    except OSError:
        return


def shown_duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: 1m30s, 1.5s, 250ms."""
    if nanoseconds < SECOND:
        return f"{nanoseconds / 10**6:g}ms"
    minutes, rest = divmod(nanoseconds, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{rest / SECOND:g}s"
