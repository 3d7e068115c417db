"""Containers, for users of the library."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from sampan.engine.containers.queries import Attachment, AttachQuery, ListQuery, LogsQuery
from sampan.errors import DeadlineExceeded, NotModified, SampanError
from sampan.library.calls import Calls
from sampan.library.images import Source, blocks
from sampan.logs.stream import STDERR, FrameReader
from sampan.spec.docker.containers import ContainerInspect, ContainerSummary, CreateRequest
from sampan.spec.docker.exec import ExecCreateRequest, ExecStartRequest
from sampan.storage.mounter import ExtractOptions

Command = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Result:
    """What a program has left."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    logs: bytes  # both, in the order in which they were written


class LibraryContainers:
    """`engine.containers`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def run(
        self,
        image: str,
        command: Command = None,
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        remove: bool = True,
        name: str = "",
        **options: Any,
    ) -> Result:
        """Run a program to its end in a container of its own.

        `input` is what it reads from stdin. After `timeout` seconds it is killed, and
        DeadlineExceeded raised. `options` are those of `create`. Raises CommandNotFound and
        others in Docker's words; the container is removed in any case, unless `remove` is False.
        """
        container = self.create(image, command, name=name, stdin=input is not None, **options)
        try:
            return container.run(input, timeout=timeout)
        finally:
            if remove:
                container.remove(force=True, volumes=True)

    def create(
        self,
        image: str,
        command: Command = None,
        *,
        name: str = "",
        stdin: bool = False,
        env: Mapping[str, str] | None = None,
        user: str = "",
        working_dir: str = "",
        network: str = "",
        binds: Sequence[str] = (),
        ports: Mapping[str, int | None] | None = None,
        memory: int = 0,
        config: Mapping[str, Any] | None = None,
        host_config: Mapping[str, Any] | None = None,
    ) -> Container:
        """Make a container; start it with `start`, or by using it as a context manager.

        `binds` are "host:container[:ro]"; `ports` lead from "80/tcp" to a port of the host (None:
        any); `memory` is in bytes. `config` and `host_config` take every other field of Docker's
        API, by its name there.
        """
        document: dict[str, Any] = {
            "Image": image,
            "Cmd": ["/bin/sh", "-c", command] if isinstance(command, str) else command,
            "User": user,
            "WorkingDir": working_dir,
            "Env": [f"{key}={value}" for key, value in (env or {}).items()],
            "OpenStdin": stdin,
            "StdinOnce": stdin,
            "ExposedPorts": {port: {} for port in ports or ()},
            **(config or {}),
            "HostConfig": {
                "NetworkMode": network or self._calls.default_network,
                "Binds": list(binds),
                "Memory": memory,
                "PortBindings": {
                    port: [{"HostPort": str(number or "")}]
                    for port, number in (ports or {}).items()
                },
                **(host_config or {}),
            },
        }
        request = msgspec.convert(document, CreateRequest)
        made = self._calls.call(self._calls.engine.containers.create(request, name))
        return Container(self._calls, made.id)

    def get(self, ref: str) -> Container:
        """Return a container by id, beginning of an id, or name; raises NotFound."""
        found = self._calls.call(self._calls.engine.containers.inspect(ref))
        return Container(self._calls, found.id)

    def list(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[ContainerSummary]:
        """Return what `docker ps` shows."""
        query = ListQuery(all=all, filters=filters or {})
        return self._calls.call(self._calls.engine.containers.list(query))


class Container:
    """One container. As a context manager it is started, and removed at the end."""

    def __init__(self, calls: Calls, id: str) -> None:
        self._calls, self.id = calls, id

    @property
    def _containers(self) -> Any:
        return self._calls.engine.containers

    def __enter__(self) -> Self:
        try:
            self.start()
        except SampanError:
            self.remove(force=True, volumes=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove(force=True, volumes=True)

    def start(self) -> None:
        """Start it; one that runs is left alone."""
        try:
            self._calls.call(self._containers.start(self.id))
        except NotModified:
            pass

    def stop(self, timeout: int | None = None) -> None:
        """Ask it to end; after `timeout` seconds (ten if not said) it is killed."""
        try:
            self._calls.call(self._containers.stop(self.id, timeout=timeout))
        except NotModified:
            pass

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        self._calls.call(self._containers.kill(self.id, signal))

    def wait(self) -> int:
        """Wait for its end, and return the exit code."""

        async def wait() -> int:
            code: int = (await self._containers.waiter(self.id).wait()).status_code
            return code

        return self._calls.call(wait())

    def run(self, input: bytes | None = None, *, timeout: float | None = None) -> Result:
        """Start it, feed it `input`, and wait for its end."""
        return self._calls.call(self._run(input, timeout))

    async def _run(self, input: bytes | None, seconds: float | None) -> Result:
        query = AttachQuery(stream=True, stdin=input is not None, stdout=True, stderr=True)
        attachment = await self._containers.attach(self.id, query)
        with _open(attachment) as sock:
            waiter = self._containers.waiter(self.id, "next-exit")
            await self._containers.start(self.id)
            output = Output(framed=not attachment.terminal)
            try:
                async with asyncio.timeout(seconds):
                    await _converse(sock, input, output)
                    ended = await waiter.wait()
            except TimeoutError:
                await self._containers.kill(self.id)
                raise DeadlineExceeded(f"the program ran for more than {seconds:g} s") from None
        return output.result(ended.status_code)

    def exec(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,
        user: str = "",
        working_dir: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run one more program in it, to its end."""
        request = ExecCreateRequest(
            cmd=["/bin/sh", "-c", command] if isinstance(command, str) else list(command),
            user=user,
            working_dir=working_dir,
            env=[f"{key}={value}" for key, value in (env or {}).items()],
            attach_stdin=input is not None,
            attach_stdout=True,
            attach_stderr=True,
        )
        return self._calls.call(self._exec(request, input))

    async def _exec(self, request: ExecCreateRequest, input: bytes | None) -> Result:
        execs = self._calls.engine.execs
        made = await execs.create(self.id, request)
        wanted = {"container": [self.id], "event": ["exec_die"]}
        ends = self._calls.engine.events.subscribe(filters=wanted)
        output = Output(framed=True)
        with _open(await execs.connect(made.id, ExecStartRequest())) as sock:
            await execs.start(made.id, ExecStartRequest())
            await _converse(sock, input, output)
        async for end in ends:
            if end.actor.attributes["execID"] == made.id:
                break
        return output.result(execs.inspect(made.id).exit_code or 0)

    def logs(self, *, tail: int | None = None, timestamps: bool = False) -> bytes:
        """Return what it has written so far, both streams in order."""

        async def read() -> bytes:
            query = LogsQuery(stdout=True, stderr=True, tail=tail, timestamps=timestamps)
            terminal, content = self._containers.logs(self.id, query)
            output = Output(framed=not terminal)
            async for block in content:
                output.feed(block)
            return output.result(0).logs

        return self._calls.call(read())

    def inspect(self) -> ContainerInspect:
        """Return everything about it."""
        found: ContainerInspect = self._calls.call(self._containers.inspect(self.id))
        return found

    def put(self, path: str, archive: Source) -> None:
        """Unpack a tar into its folder `path`."""
        options = ExtractOptions()
        self._calls.call(self._containers.put_archive(self.id, path, blocks(archive), options))

    def get(self, path: str) -> bytes:
        """Return a path of it as a tar."""

        async def get() -> bytes:
            _, content = await self._containers.get_archive(self.id, path)
            return b"".join([block async for block in content])

        return self._calls.call(get())

    def commit(self, repository: str = "", tag: str = "", *, changes: Sequence[str] = ()) -> str:
        """Make an image of it; return the image's id."""
        work = self._containers.commit(self.id, repo=repository, tag=tag, changes=changes)
        image: str = self._calls.call(work)
        return image

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; Conflict while it runs, unless by force."""
        self._calls.call(self._containers.remove(self.id, force=force, volumes=volumes))


class Output:
    """Takes the streams of a process apart."""

    def __init__(self, *, framed: bool) -> None:
        self._frames = FrameReader() if framed else None
        self._all, self._out, self._err = bytearray(), bytearray(), bytearray()

    def feed(self, data: bytes) -> None:
        """Add what came from the process."""
        if self._frames is None:
            self._all += data
            self._out += data
            return
        for stream, payload in self._frames.feed(data):
            self._all += payload
            (self._err if stream == STDERR else self._out).extend(payload)

    def result(self, exit_code: int) -> Result:
        """Return what was written."""
        return Result(exit_code, bytes(self._out), bytes(self._err), bytes(self._all))


def _open(attachment: Attachment) -> socket.socket:
    assert attachment.socket is not None
    attachment.socket.setblocking(False)
    return attachment.socket


async def _converse(sock: socket.socket, input: bytes | None, output: Output) -> None:
    """Write the input and read the output until the process closes its streams."""
    loop = asyncio.get_running_loop()

    async def write() -> None:
        try:
            if input:
                await loop.sock_sendall(sock, input)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the process does not read all of it

    writing = asyncio.ensure_future(write())
    try:
        while data := await loop.sock_recv(sock, 256 << 10):
            output.feed(data)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
