"""Running containers: start, stop, restart, kill, pause, and what happens at their end.

Every change of one container holds its lock; its end does not, so that `stop` can wait for it.
Source: moby daemon/start.go, stop.go, kill.go, pause.go, monitor.go.
"""

from __future__ import annotations

import asyncio
import logging
import signal as signals
import time
from contextlib import suppress

from sampan.engine.blocking import blocking
from sampan.engine.containers import joining
from sampan.engine.containers.borrowing import Borrowed
from sampan.engine.containers.container import Container
from sampan.engine.containers.execs import Execs
from sampan.engine.containers.health import HealthChecks
from sampan.engine.containers.launching import Launching
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.notices import Notices
from sampan.engine.containers.oom_watch import OOMWatch
from sampan.engine.containers.restart import Restarts
from sampan.engine.containers.signals import parse_signal
from sampan.engine.containers.store import ContainerStore
from sampan.engine.containers.waiting import settle_exits
from sampan.engine.networks.file_edits import edit_files
from sampan.engine.networks.links import Links
from sampan.engine.networks.networks import Networks
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    NoSpace,
    NotFound,
    NotModified,
    SampanError,
)
from sampan.linux.cgroups.hierarchy import detect, open_cgroup
from sampan.runtime.spawner import Spawner, Started
from sampan.runtime.spawning.tasks import boot_id

log = logging.getLogger(__name__)

STOP_SECONDS = 10
WAIT_SECONDS = 0.2  # for a container that starts first, as this one shares its namespaces
KILL_SECONDS = 10  # how long a killed container may take to end
UNKNOWN_EXIT = 255  # nobody could learn it (moby: the shim is gone)


class Lifecycle:
    """Starts and ends containers."""

    def __init__(
        self,
        *,
        table: Table,
        store: ContainerStore,
        networks: Networks,
        links: Links,
        mounts: ContainerMounts,
        spawner: Spawner,
        launching: Launching,
        notices: Notices,
        tasks: Tasks,
        execs: Execs,
    ) -> None:
        self._table, self._store, self._networks, self._links = table, store, networks, links
        self._mounts, self._spawner, self._launching = mounts, spawner, launching
        self._notices, self._tasks = notices, tasks
        self._health = HealthChecks(execs, notices, tasks, spawner)
        self._restarts = Restarts(tasks)
        self.auto_remove = self._keep  # set by the engine: `removal` needs this class as well

    # --- start ---------------------------------------------------------------------------------

    async def start(self, container: Container, borrowed: Borrowed | None = None) -> None:
        """Start a container that does not run, this once with what it has on loan."""
        async with container.lock:
            await container.settled()
            await self._start_by_hand(container, borrowed)

    async def _start_by_hand(self, container: Container, borrowed: Borrowed | None = None) -> None:
        if container.running and container.record.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.running:
            raise NotModified(f"container {container.id} is already running")
        if container.removing or container.record.dead:
            raise Conflict("container is marked for removal and cannot be started")
        self._restarts.cancel(container)
        container.record.manually_stopped = False
        container.record.restart_count = 0
        await self.run(container, borrowed)

    async def run(self, container: Container, borrowed: Borrowed | None = None) -> None:
        """Start the container; the caller holds its lock. After a failure nothing is left."""
        record = container.record
        try:
            started = await self._launching.launch(container, borrowed)
        except SampanError as error:
            raise await self._failed(container, error) from error
        record.started, record.paused, record.pid = True, False, started.pid
        record.started_at, record.finished_at = started.started_at, 0
        record.exit_code, record.oom_killed, record.error = 0, False, ""
        record.boot_id = boot_id()
        container.running, container.restarting = True, False
        container.stop_requested = False
        container.ended.clear()
        self.watch(container, started)
        await self._store.save(container)
        for warning in started.warnings:
            log.warning("container %s: %s", container.short_id, warning)
        self._notices.container(container, "start")
        self._health.start(container)
        self._mounts.files.begin(container)
        await self._renew_links(container)

    async def _renew_links(self, target: Container) -> None:
        """Have those that have links to a container find it at the address that it has now."""
        for container, line in list(self._links.to(target)):
            await self._networks.link(container.id, self._links.peers(container.record))
            changes = self._networks.relink(container.id, line)
            if changes:
                names = line.partition(":")[0]
                others = [it for it in container.record.linked if it.partition(":")[0] != names]
                container.record.linked = [*others, line]
                await self._store.save(container)
                await edit_files(self._spawner, container, changes)

    async def _failed(self, container: Container, error: SampanError) -> SampanError:
        """Note why a start failed, and return the error in Docker's words."""
        record = container.record
        message = str(error)
        if isinstance(error, CommandNotFound | CommandNotExecutable):
            record.exit_code = 127 if isinstance(error, CommandNotFound) else 126
            message = (
                "failed to create task for container: failed to create shim task: OCI runtime"
                f" create failed: unable to start container process: {message}"
            )
        else:
            record.exit_code = 128
        record.error, record.started, container.restarting = message, False, False
        await self._store.save(container)
        with suppress(SampanError):
            await blocking(self._spawner.forget, container.id)
        self._notices.container(container, "die", exitCode=str(record.exit_code))
        if container.host_config.auto_remove:
            await self.auto_remove(container)
        return type(error)(message)

    async def _keep(self, container: Container) -> None:
        log.debug("container %s stays: nobody removes here", container.short_id)

    def resume(self, container: Container, started: Started) -> None:
        """Take up a container that ran before this daemon did."""
        self.watch(container, started)
        self._mounts.files.begin(container)
        if not container.record.paused:
            self._health.start(container)

    # --- end -----------------------------------------------------------------------------------

    def watch(self, container: Container, started: Started) -> None:
        """Follow a running process until it ends."""
        loop = asyncio.get_running_loop()
        container.close_watch()
        container.pidfd, container.cgroup = started.pidfd, started.cgroup
        out_of_memory: OOMWatch | None = None
        if started.oom:
            out_of_memory = container.oom = OOMWatch(
                started.oom,
                open_cgroup(started.cgroup),
                lambda: self._notices.container(container, "oom"),
                counts=detect().version == 2,
            )

        def ended() -> None:
            if container.pidfd:
                loop.remove_reader(container.pidfd.number)
            container.close_watch()
            container.ending = True
            told = out_of_memory is not None and out_of_memory.told
            self._tasks.spawn(self._end(container, told), f"end of {container.short_id}")

        loop.add_reader(started.pidfd.number, ended)

    async def _end(self, container: Container, told_of_oom: bool) -> None:
        record = container.record
        try:
            status = await blocking(self._spawner.wait, container.id)
            code, lost = status.exit_code, status.lost
            if status.oom_killed and not told_of_oom:  # its end was seen first
                self._notices.container(container, "oom")
            # systemd may have taken the cgroup with its counts away before they were read.
            record.oom_killed = status.oom_killed or told_of_oom
            record.finished_at = status.finished_at or time.time_ns()
        except SampanError as error:
            code, lost = None, str(error)
            record.finished_at = time.time_ns()
        await self.ended(container, UNKNOWN_EXIT if code is None else code, lost)

    async def ended(self, container: Container, exit_code: int, lost: str = "") -> None:
        """Tidy up after a container that has ended, and start it again if its policy says so."""
        record = container.record
        self._health.stop(container)
        self._mounts.files.leave(container)
        record.exit_code, record.error, record.paused, record.pid = exit_code, lost, False, 0
        left = await asyncio.gather(  # two helpers, each with a millisecond of work
            self._networks.disconnect(container.id),
            blocking(self._spawner.forget, container.id),
            self._mounts.unmount(record),
            return_exceptions=True,
        )
        for error in left:
            if isinstance(error, BaseException) and not isinstance(error, SampanError):
                raise error
        container.network = None
        delay = self._restarts.delay(container)
        record.started = delay is not None
        try:
            await self._store.save(container)
        except NoSpace as error:
            # Who waits for the end learns of it all the same, and may be the one to make room.
            log.warning("the end of container %s is not saved: %s", container.short_id, error)
        log.info("container %s ended with code %d", container.short_id, exit_code)
        container.running = False
        container.restarting = delay is not None
        duration = max(record.finished_at - record.started_at, 0) // 10**9
        self._notices.container(
            container, "die", execDuration=str(duration), exitCode=str(exit_code)
        )
        container.ending = False
        container.ended.set()
        settle_exits(container)
        if delay is not None:
            self._restarts.schedule(container, delay, self._start_again)
        elif container.host_config.auto_remove:
            await self.auto_remove(container)

    async def _start_again(self, container: Container) -> None:
        async with container.lock:
            if container.running or not container.restarting or container.removing:
                return
            if joining.waits(self._table, container):
                self._restarts.schedule(container, WAIT_SECONDS, self._start_again)
                return
            container.record.restart_count += 1
            try:
                await self.run(container)
            except SampanError as error:
                log.warning("container %s did not start again: %s", container.short_id, error)

    # --- stop, kill ----------------------------------------------------------------------------

    async def stop(
        self, container: Container, signal: str = "", seconds: int | None = None
    ) -> None:
        """Ask the container to end; after `seconds` (-1: never) kill it."""
        async with container.lock:
            if not container.running and not container.restarting:
                raise NotModified(f"container {container.id} is already stopped")
            await self._stop(container, signal, seconds)
        self._notices.container(container, "stop")

    async def _stop(self, container: Container, signal: str, seconds: int | None) -> None:
        number = parse_signal(signal or container.config.stop_signal or "SIGTERM")
        if seconds is None:
            own = container.config.stop_timeout
            seconds = own if isinstance(own, int) else STOP_SECONDS
        container.record.manually_stopped = container.stop_requested = True
        self._restarts.cancel(container)
        if not container.running:
            container.record.started = False
            await self._store.save(container)
            return
        if seconds:
            await self._signal(container, number)
        if not seconds or not await _ends(container, None if seconds < 0 else seconds):
            await self._kill_and_wait(container)

    async def restart(
        self, container: Container, signal: str = "", seconds: int | None = None
    ) -> None:
        """Stop the container if it runs, and start it."""
        async with container.lock:
            if container.removing or container.record.dead:
                raise Conflict("container is marked for removal and cannot be started")
            if container.running or container.restarting:
                auto_remove = container.host_config.auto_remove
                container.host_config.auto_remove = False
                try:
                    await self._stop(container, signal, seconds)
                finally:
                    container.host_config.auto_remove = auto_remove
            await self._start_by_hand(container)
        self._notices.container(container, "restart")

    async def kill(self, container: Container, signal: str = "") -> None:
        """Send a signal; SIGKILL waits for the end."""
        number = parse_signal(signal or "SIGKILL")
        if not container.running and not container.restarting:
            raise Conflict(
                f"cannot kill container: {container.name}: container {container.id} is not running"
            )
        stop_signal = parse_signal(container.config.stop_signal or "SIGTERM")
        if number in (signals.SIGKILL, stop_signal):
            container.record.manually_stopped = container.stop_requested = True
            self._restarts.cancel(container)
        if not container.running:
            await self._store.save(container)
        elif number == signals.SIGKILL:
            await self._kill_and_wait(container)
        else:
            await self._signal(container, number)

    async def kill_for_removal(self, container: Container) -> None:
        """End a container at once, whatever it does; the caller holds the lock."""
        container.record.manually_stopped = container.stop_requested = True
        self._restarts.cancel(container)
        if container.running:
            await self._kill_and_wait(container)

    async def _signal(self, container: Container, number: int) -> None:
        self._notices.container(container, "kill", signal=str(int(number)))
        with suppress(NotFound, Conflict):  # it has just ended by itself
            await blocking(self._spawner.signal, container.id, signal=int(number))
            if container.record.paused and number == signals.SIGKILL:
                await blocking(self._spawner.freeze, container.id, frozen=False)

    async def _kill_and_wait(self, container: Container) -> None:
        await self._signal(container, signals.SIGKILL)
        if not await _ends(container, KILL_SECONDS):
            raise Conflict(
                f"cannot stop container: {container.id}: tried to kill container, but did not"
                " receive an exit event"
            )

    # --- pause ---------------------------------------------------------------------------------

    async def pause(self, container: Container) -> None:
        """Freeze all processes of a running container."""
        async with container.lock:
            if not container.running:
                raise Conflict(f"container {container.id} is not running")
            if container.record.paused:
                raise Conflict(f"container {container.id} is already paused")
            await blocking(self._spawner.freeze, container.id, frozen=True)
            container.record.paused = True
            await self._store.save(container)
            self._health.stop(container)
        self._notices.container(container, "pause")

    async def unpause(self, container: Container) -> None:
        """Let all processes of a paused container go on."""
        async with container.lock:
            if not container.running or not container.record.paused:
                raise Conflict(f"container {container.id} is not paused")
            await blocking(self._spawner.freeze, container.id, frozen=False)
            container.record.paused = False
            await self._store.save(container)
            self._health.start(container, resumed=True)
        self._notices.container(container, "unpause")


async def _ends(container: Container, seconds: float | None) -> bool:
    """Wait for the end; tell whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await container.ended.wait()
    except TimeoutError:
        return False
    return True
