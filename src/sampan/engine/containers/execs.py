"""More processes in running containers: create, start, resize, inspect."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.queries import Attachment
from sampan.engine.events import Events
from sampan.engine.oci.specification import Specifications
from sampan.engine.tasks import Tasks
from sampan.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidArgument,
    NotFound,
    SampanError,
)
from sampan.rpc import Fd
from sampan.runtime.spawner import ExecLaunch, Spawner, Streams
from sampan.spec.docker.exec import (
    ExecCreateRequest,
    ExecCreateResponse,
    ExecInspect,
    ExecProcessConfig,
    ExecStartRequest,
)
from sampan.spec.names import new_id

log = logging.getLogger(__name__)
NOT_EXECUTABLE, NOT_FOUND = 126, 127
SETTLE_SECONDS = 2.0
KEPT, KEPT_SECONDS = 4096, 300.0  # of execs that have ended: how many, how long (moby: 5 minutes)


@dataclass(slots=True, eq=False)
class Exec:
    """One exec: made, started once, remembered for some time after its end."""

    id: str
    container: Container
    request: ExecCreateRequest
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    rows: int = 0
    columns: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Execs:
    """The execs of this engine."""

    def __init__(
        self,
        table: Table,
        spawner: Spawner,
        specifications: Specifications,
        events: Events,
        tasks: Tasks,
    ) -> None:
        self._table, self._spawner, self._events = table, spawner, events
        self._specifications, self._tasks = specifications, tasks
        self._execs: dict[str, Exec] = {}
        self._over: deque[tuple[float, str]] = deque()  # what has ended, and when

    async def create(self, ref: str, request: ExecCreateRequest) -> ExecCreateResponse:
        """Remember a program to run in a running container; Conflict if it does not run."""
        container = self._table.find(ref)
        _check_running(container)
        if not request.cmd or not request.cmd[0]:
            raise InvalidArgument("No exec command specified")
        _check_size(request.console_size)
        execution = Exec(new_id(), container, request)
        if request.console_size:
            execution.rows, execution.columns = request.console_size
        self._execs[execution.id] = execution
        container.execs.append(execution.id)
        self._publish(execution, f"exec_create: {' '.join(request.cmd)}")
        return ExecCreateResponse(id=execution.id)

    async def connect(self, id: str, request: ExecStartRequest) -> Attachment:
        """Connect to the streams of an exec that is about to start.

        Conflict if it was started already or its container does not run.
        """
        execution = self._find(id)
        self._check_startable(execution)
        wanted = execution.request
        sock: socket.socket | None = None
        if not request.detach:
            fd = await blocking(
                self._spawner.attach,
                execution.container.id,
                id,
                stdin=wanted.attach_stdin,
                stdout=wanted.attach_stdout,
                stderr=wanted.attach_stderr,
            )
            sock = socket.socket(fileno=fd.detach())
        return Attachment(socket=sock, terminal=wanted.tty)

    async def start(self, id: str, request: ExecStartRequest) -> None:
        """Run it; CommandNotFound and its kin in Docker's words, for the client's terminal."""
        execution = self._find(id)
        self._check_startable(execution)
        _check_size(request.console_size)
        execution.started = True
        if request.console_size and any(request.console_size):
            execution.rows, execution.columns = request.console_size
        self._publish(execution, f"exec_start: {' '.join(execution.request.cmd or [])}")
        try:
            await self._run(execution)
        except SampanError as error:
            execution.exit_code = _failure_code(error)
            self._settle(execution)
            await blocking(self._spawner.forget, execution.container.id, id)
            raise type(error)(_failure(error)) from error

    async def _run(self, execution: Exec) -> None:
        container, request = execution.container, execution.request
        process = self._specifications.exec_process(container.record, request)
        streams = Streams(
            terminal=request.tty,
            open_stdin=request.attach_stdin,
            stdin_once=True,
            rows=execution.rows,
            columns=execution.columns,
        )
        started = await blocking(
            self._spawner.exec,
            ExecLaunch(
                id=container.id,
                exec_id=execution.id,
                process=process,
                streams=streams,
                user=request.user or container.config.user,
                groups=container.host_config.group_add or [],
            ),
        )
        execution.pid, execution.running = started.pid, True
        if started.oom:
            started.oom.close()
        self._watch(execution, started.pidfd)

    def _watch(self, execution: Exec, pidfd: Fd) -> None:
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(pidfd.number)
            pidfd.close()
            self._tasks.spawn(self._end(execution), f"end of exec {execution.id[:12]}")

        loop.add_reader(pidfd.number, ended)

    async def _end(self, execution: Exec) -> None:
        container = execution.container
        try:
            status = await blocking(self._spawner.wait, container.id, execution.id)
            execution.exit_code = 137 if status.exit_code is None else status.exit_code
            await blocking(self._spawner.forget, container.id, execution.id)
        except SampanError as error:
            log.warning("the end of exec %s is not known: %s", execution.id[:12], error)
            execution.exit_code = 137
        finally:
            execution.running = False
            self._settle(execution)
        self._publish(execution, "exec_die", exitCode=str(execution.exit_code))

    def _settle(self, execution: Exec) -> None:
        """Note the end of an exec; it can be inspected for some time, then it is forgotten."""
        execution.ended.set()
        if execution.id in execution.container.execs:
            execution.container.execs.remove(execution.id)
        now = time.monotonic()
        self._over.append((now, execution.id))
        while len(self._over) > KEPT or now - self._over[0][0] > KEPT_SECONDS:
            self._execs.pop(self._over.popleft()[1], None)

    async def settled(self, id: str) -> None:
        """Wait until the end of an exec whose streams have closed is known; not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._find(id).ended.wait()

    async def run(
        self, container: Container, command: list[str], *, user: str = ""
    ) -> tuple[Exec, socket.socket]:
        """Start a program whose output the engine itself reads (health checks)."""
        request = ExecCreateRequest(cmd=command, user=user, attach_stdout=True, attach_stderr=True)
        response = await self.create(container.id, request)
        attachment = await self.connect(response.id, ExecStartRequest())
        if attachment.socket is None:
            raise Conflict("the streams of an exec went away")
        try:
            await self.start(response.id, ExecStartRequest())
        except SampanError:
            attachment.socket.close()
            raise
        return self._execs[response.id], attachment.socket

    async def resize(self, id: str, *, rows: int, columns: int) -> None:
        """Set the size of an exec's terminal."""
        execution = self._find(id)
        execution.rows, execution.columns = rows, columns
        if execution.running:
            await blocking(
                self._spawner.resize, execution.container.id, id, rows=rows, columns=columns
            )
        elif execution.started:
            raise Conflict(f"exec process is not running: {id}")

    def inspect(self, id: str) -> ExecInspect:
        """Return what is known of an exec."""
        execution = self._find(id)
        request = execution.request
        words = list(request.cmd or [""])
        return ExecInspect(
            id=execution.id,
            running=execution.running,
            exit_code=execution.exit_code,
            process_config=ExecProcessConfig(
                tty=request.tty,
                entrypoint=words[0],
                arguments=words[1:],
                privileged=request.privileged,
                user=request.user or msgspec.UNSET,
            ),
            open_stdin=request.attach_stdin,
            open_stderr=request.attach_stderr,
            open_stdout=request.attach_stdout,
            can_remove=execution.exit_code is not None,
            container_id=execution.container.id,
            detach_keys=request.detach_keys,
            pid=execution.pid,
        )

    def detached(self, id: str) -> None:
        """Tell that a client left an exec that goes on."""
        self._publish(self._find(id), "exec_detach")

    def forget(self, container: Container) -> None:
        """Drop what is known of a container's execs; called when it is removed."""
        for gone in [key for key, each in self._execs.items() if each.container is container]:
            del self._execs[gone]

    def _find(self, id: str) -> Exec:
        if id not in self._execs:
            raise NotFound(f"No such exec instance: {id}")
        return self._execs[id]

    def _check_startable(self, execution: Exec) -> None:
        if execution.started:
            raise Conflict(f"exec process is already running: {execution.id}")
        _check_running(execution.container)

    def _publish(self, execution: Exec, action: str, **more: str) -> None:
        container = execution.container
        attributes = {**(container.config.labels or {}), "image": container.config.image}
        attributes |= {"name": container.name, "execID": execution.id, **more}
        self._events.publish("container", action, container.id, attributes)


def _check_running(container: Container) -> None:
    if container.restarting:
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if not container.running:
        raise Conflict(f"container {container.id} is not running")
    if container.record.paused:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")


def _check_size(size: list[int] | None) -> None:
    """Refuse what is no height and width. Go's decoder is laxer: nobody relies on that."""
    if size and (len(size) != 2 or not all(0 <= each < 1 << 16 for each in size)):
        raise InvalidArgument(f"invalid console size {size}: it takes a height and a width")


def _failure(error: SampanError) -> str:
    """Return why an exec did not start, in Docker's words."""
    if str(error).startswith("unable to find "):  # a user or group: no runtime was asked
        return str(error)
    return f"OCI runtime exec failed: exec failed: unable to start container process: {error}"


def _failure_code(error: SampanError) -> int:
    if isinstance(error, CommandNotFound):
        return NOT_FOUND
    return NOT_EXECUTABLE if isinstance(error, CommandNotExecutable | InvalidArgument) else 128
