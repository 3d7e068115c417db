"""A client of BuildKit's API that makes the calls of buildx, with a folder of its own to serve.

The calls, and their order, are those that buildx 0.36 was seen to make.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from sampan.http.grpc import connected, serve
from sampan.http.stream import SocketStream
from sampan.spec.buildkit import (
    control_pb2,
    errors_pb2,
    gateway_pb2,
    policy_pb2,
    session_pb2,
    solver_pb2,
)
from sampan.spec.buildkit.session_pb2 import Packet
from tests.buildkit_stores import Stores

_CONTROL = "/moby.buildkit.v1.Control/"
_POLICY = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
_GATEWAY = "/moby.buildkit.v1.frontend.LLBBridge/"
_GO = {stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFIFO: 1 << 25}
_PIECE = 32 << 10
_BUILD = "buildkit-controlapi-buildid"
Output = str | tuple[str, dict[str, str]]  # what it is, and its attributes


@dataclass(slots=True)
class Folders:
    """What a client serves: its folders, secrets and passwords."""

    folders: Mapping[str, Path]
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    passwords: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    uploads: Mapping[str, bytes] = field(default_factory=dict)  # what comes on standard input
    outputs: Mapping[str, Path] = field(default_factory=dict)  # by the number of the exporter
    stores: Mapping[str, Path] = field(default_factory=dict)  # of blobs
    agents: Mapping[str, str] = field(default_factory=dict)  # paths of sockets, by id
    policy: Callable[[Any], Any] | None = None  # what it answers when it is asked of a source
    shared_key: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def __mapping__(self) -> dict[str, Handler]:
        unary = Cardinality.UNARY_UNARY
        pb = session_pb2
        return {
            "/moby.filesync.v1.FileSync/DiffCopy": Handler(
                self.sync, Cardinality.STREAM_STREAM, Packet, Packet
            ),
            "/moby.filesync.v1.FileSend/DiffCopy": Handler(
                self.take, Cardinality.STREAM_STREAM, Packet, Packet
            ),
            "/moby.buildkit.secrets.v1.Secrets/GetSecret": Handler(
                self.secret, unary, pb.GetSecretRequest, pb.GetSecretResponse
            ),
            "/moby.upload.v1.Upload/Pull": Handler(
                self.upload, Cardinality.STREAM_STREAM, pb.BytesMessage, pb.BytesMessage
            ),
            "/moby.filesync.v1.Auth/Credentials": Handler(
                self.password, unary, pb.CredentialsRequest, pb.CredentialsResponse
            ),
            **Stores(self.stores).__mapping__(),
            _POLICY: Handler(
                self.decide, unary, policy_pb2.CheckPolicyRequest, policy_pb2.CheckPolicyResponse
            ),
            "/moby.sshforward.v1.SSH/CheckAgent": Handler(
                self.check_agent, unary, pb.CheckAgentRequest, pb.CheckAgentResponse
            ),
            "/moby.sshforward.v1.SSH/ForwardAgent": Handler(
                self.forward, Cardinality.STREAM_STREAM, pb.BytesMessage, pb.BytesMessage
            ),
        }

    async def decide(self, stream: Stream[Any, Any]) -> None:
        assert self.policy is not None
        await stream.send_message(self.policy(await stream.recv_message()))

    async def check_agent(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        if request.ID not in self.agents:
            raise GRPCError(Status.UNKNOWN, f"unset ssh forward key {request.ID}")
        await stream.send_message(session_pb2.CheckAgentResponse())

    async def forward(self, stream: Stream[Any, Any]) -> None:
        """Connect a stream with an agent."""
        metadata: Any = stream.metadata
        path = self.agents[metadata["buildkit.ssh.id"]]
        reader, writer = await asyncio.open_unix_connection(path)

        async def answer() -> None:
            while data := await reader.read(_PIECE):
                await stream.send_message(session_pb2.BytesMessage(data=data))

        answering = asyncio.ensure_future(answer())
        try:
            while (message := await stream.recv_message()) is not None:
                writer.write(message.data)
            writer.write_eof()
            await answering
        finally:
            answering.cancel()
            writer.close()

    async def take(self, stream: Stream[Any, Any]) -> None:
        """Write what comes to an output: a folder if it is there, else a file."""
        metadata: Any = stream.metadata
        number = metadata["buildkit-attachable-exporter-id"]
        if number not in self.outputs:
            raise GRPCError(Status.UNKNOWN, f"exporter {number} not found")
        output = self.outputs[number]
        if output.is_dir():
            await _receive(stream, output)
            return
        with output.open("wb") as file:
            while (message := await stream.recv_message()) is not None:
                # BytesMessage has its data where Packet has its type: field 1, of bytes.
                file.write(_data(message))

    async def upload(self, stream: Stream[Any, Any]) -> None:
        """Send what the client has read, as buildx does."""
        metadata: Any = stream.metadata
        name = metadata["urlpath"].removeprefix("/")
        if name not in self.uploads:
            raise GRPCError(Status.UNKNOWN, f"no http response from session for {name}")
        content = self.uploads[name]
        for at in range(0, len(content), _PIECE):
            await stream.send_message(session_pb2.BytesMessage(data=content[at : at + _PIECE]))

    async def secret(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        if request.ID not in self.secrets:
            raise GRPCError(Status.NOT_FOUND, f"secret {request.ID}: not found")
        await stream.send_message(session_pb2.GetSecretResponse(data=self.secrets[request.ID]))

    async def password(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        name, secret = self.passwords.get(request.Host, ("", ""))
        await stream.send_message(session_pb2.CredentialsResponse(Username=name, Secret=secret))

    async def sync(self, stream: Stream[Any, Any]) -> None:
        """Send a folder as fsutil does: all names, and contents as they are asked for."""
        metadata: Any = stream.metadata
        wanted = {key: metadata.getall(key) for key in metadata}
        self.asked.append(wanted)
        [name] = wanted["dir-name"]
        if name not in self.folders:
            raise GRPCError(Status.NOT_FOUND, f'no access allowed to dir "{name}"')
        files = list(_walk(self.folders[name], wanted))
        for _, packet in files:
            await stream.send_message(packet)
        await stream.send_message(Packet(type=Packet.PACKET_STAT))
        while (asked := await stream.recv_message()).type != Packet.PACKET_FIN:
            path = files[asked.ID][0]
            self.sent.append(path.name)
            content = path.read_bytes()
            for at in range(0, len(content), _PIECE):
                piece = Packet(type=Packet.PACKET_DATA, ID=asked.ID, data=content[at : at + _PIECE])
                await stream.send_message(piece)
            await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=asked.ID))
        await stream.send_message(Packet(type=Packet.PACKET_FIN))


def _data(message: Packet) -> bytes:
    """Return the data of a BytesMessage that was read as a Packet."""
    raw = message.SerializeToString()
    return bytes(session_pb2.BytesMessage.FromString(raw).data)


async def _receive(stream: Stream[Any, Any], folder: Path) -> None:
    """Take a folder as fsutil does: names, then the contents of the files that it wants."""
    names: list[session_pb2.Stat] = []
    while (packet := await stream.recv_message()).HasField("stat"):
        names.append(packet.stat)
    for number, one in enumerate(names):
        path = folder / one.path
        if one.mode & 1 << 31:
            path.mkdir()
        elif one.mode & 1 << 27:
            path.symlink_to(one.linkname)
        elif one.linkname:
            path.hardlink_to(folder / one.linkname)
        elif not one.mode & ~0o777:
            await stream.send_message(Packet(type=Packet.PACKET_REQ, ID=number))
            with path.open("wb") as file:
                while data := (await stream.recv_message()).data:
                    file.write(data)
            path.chmod(one.mode)
    await stream.send_message(Packet(type=Packet.PACKET_FIN))
    assert (await stream.recv_message()).type == Packet.PACKET_FIN


def _walk(root: Path, wanted: Mapping[str, list[str]]) -> list[tuple[Path, Packet]]:
    follow, exclude = wanted.get("followpaths", []), wanted.get("exclude-patterns", [])
    found, seen = [], dict[int, str]()
    for path in sorted(root.rglob("*"), key=lambda path: path.parts):
        name = str(path.relative_to(root))
        if (follow and name not in follow) or name in exclude:
            continue
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        link = os.readlink(path) if kind == stat.S_IFLNK else ""
        if kind == stat.S_IFREG:
            link = seen.setdefault(info.st_ino, name)
            link = "" if link == name else link
        one = session_pb2.Stat(
            path=name,
            mode=_GO.get(kind, 0) | (info.st_mode & 0o777),
            size=info.st_size if kind == stat.S_IFREG else 0,
            modTime=info.st_mtime_ns,
            linkname=link,
        )
        found.append((path, Packet(type=Packet.PACKET_STAT, stat=one)))
    return found


@dataclass(slots=True)
class Result:
    """What came of a build."""

    response: dict[str, str]
    vertices: dict[str, control_pb2.Vertex]  # the last of each digest
    logs: bytes
    warnings: list[str]
    metadata: dict[str, bytes]  # of the result

    @property
    def names(self) -> list[str]:
        return [vertex.name for vertex in self.vertices.values()]

    @property
    def cached(self) -> list[str]:
        return [vertex.name for vertex in self.vertices.values() if vertex.cached]


@contextlib.asynccontextmanager
async def hijacked(
    path: str, target: str, *headers: tuple[str, str]
) -> AsyncIterator[SocketStream]:
    """Open a connection to a daemon that speaks HTTP/2 from now on."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    stream = SocketStream(sock)
    fields = [("Host", "x"), ("Connection", "Upgrade"), ("Upgrade", "h2c"), *headers]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    try:
        await stream.send(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await stream.receive()
        head_, _, rest = answer.partition(b"\r\n\r\n")
        assert b" 101 " in head_, answer
        stream.push_back(rest)
        yield stream
    finally:
        stream.close()


@contextlib.asynccontextmanager
async def session(path: str, folders: Folders) -> AsyncIterator[str]:
    """Serve folders to a daemon; give the session's id."""
    name = secrets.token_hex(12)
    method = "X-Docker-Expose-Session-Grpc-Method"
    headers = [(method, path_of) for path_of in folders.__mapping__()]
    headers += [("X-Docker-Expose-Session-Uuid", name), ("X-Docker-Expose-Session-Name", "test")]
    if folders.shared_key:
        headers.append(("X-Docker-Expose-Session-Sharedkey", folders.shared_key))
    async with hijacked(path, "/session", *headers) as stream:
        task = asyncio.ensure_future(serve(stream, [folders]))
        try:
            yield name
        finally:
            task.cancel()
            await asyncio.wait([task])


class _Tunnel:
    """Our end of a session that goes through a call."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def receive(self, size: int = 0) -> bytes:
        message = await self._stream.recv_message()
        return b"" if message is None else bytes(message.data)

    async def send(self, *parts: bytes) -> None:
        await self._stream.send_message(control_pb2.BytesMessage(data=b"".join(parts)))


@contextlib.asynccontextmanager
async def direct(path: str, folders: Folders) -> AsyncIterator[tuple[str, Client]]:
    """Speak HTTP/2 from the first byte on, as buildx's remote driver; give session and client."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    stream, name = SocketStream(sock), secrets.token_hex(12)
    prefix = "x-docker-expose-session-"
    metadata = [(f"{prefix}uuid", name)]
    metadata += [(f"{prefix}grpc-method", method) for method in folders.__mapping__()]
    kind = control_pb2.BytesMessage
    try:
        async with (
            connected(stream) as (channel, _),
            channel.request(
                f"{_CONTROL}Session", Cardinality.STREAM_STREAM, kind, kind, metadata=metadata
            ) as call,
        ):
            await call.send_request()
            serving = asyncio.ensure_future(serve(_Tunnel(call), [folders]))
            try:
                yield name, Client(channel)
            finally:
                serving.cancel()
                await asyncio.wait([serving])
                await call.cancel()
    finally:
        stream.close()


class Client:
    """Calls of one connection."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def call(self, name: str, request: Any, reply: type, build: str = "") -> Any:
        method: Any = UnaryUnaryMethod(self.channel, name, type(request), reply)
        return await method(request, metadata={_BUILD: build} if build else None)

    async def control(self, name: str, request: Any, reply: type) -> Any:
        return await self.call(f"{_CONTROL}{name}", request, reply)

    async def gateway(self, name: str, request: Any, reply: type, build: str) -> Any:
        return await self.call(f"{_GATEWAY}{name}", request, reply, build)

    async def stream(self, name: str, request: Any, reply: type) -> list[Any]:
        method: Any = UnaryStreamMethod(self.channel, _CONTROL + name, type(request), reply)
        found: list[Any] = await method(request)
        return found

    async def events(self, name: str, request: Any, reply: type) -> AsyncIterator[Any]:
        """Yield answers as they come."""
        method: Any = UnaryStreamMethod(self.channel, _CONTROL + name, type(request), reply)
        async with method.open() as stream:
            await stream.send_message(request, end=True)
            async for message in stream:
                yield message


@contextlib.asynccontextmanager
async def client(path: str) -> AsyncIterator[Client]:
    """Give a client of a daemon's gRPC API."""
    async with hijacked(path, "/grpc") as stream, connected(stream) as (channel, _):
        yield Client(channel)


async def build(
    path: str,
    folders: Folders,
    tags: str = "",
    kinds: Sequence[Output] = ("moby",),
    cache: control_pb2.CacheOptions | None = None,
    allow: Sequence[str] = (),
    **attributes: str,
) -> Result:
    """Build as buildx does; GRPCError tells why it failed."""
    async with session(path, folders) as known, client(path) as one:
        return await ask(one, known, tags, kinds, attributes, cache, allow=allow)


async def ask(
    one: Client,
    known: str,
    tags: str = "",
    kinds: Sequence[Output] = ("moby",),
    attributes: Mapping[str, str] | None = None,
    cache: control_pb2.CacheOptions | None = None,
    inputs: Mapping[str, solver_pb2.Definition] | None = None,
    allow: Sequence[str] = (),
) -> Result:
    """Build with the help of a session that is there."""
    ref = secrets.token_hex(12)
    named = {"name": tags} if tags else {}
    outputs = [(kind, {}) if isinstance(kind, str) else kind for kind in kinds]
    exporters = [control_pb2.Exporter(Type=kind, Attrs=named | more) for kind, more in outputs]
    pb = control_pb2
    status = asyncio.ensure_future(
        one.stream("Status", pb.StatusRequest(Ref=ref), pb.StatusResponse)
    )
    solve = asyncio.ensure_future(
        one.control(
            "Solve",
            pb.SolveRequest(
                Ref=ref,
                Session=known,
                Exporters=exporters,
                Cache=cache,
                FrontendAttrs=attributes,
                Entitlements=allow,
            ),
            pb.SolveResponse,
        )
    )
    try:
        metadata = await _drive(one, ref, attributes or {}, inputs or {})
        response = await solve
        return _result(dict(response.ExporterResponse), metadata, await status)
    finally:
        for task in (status, solve):
            task.cancel()
        await asyncio.wait([status, solve])


async def _drive(
    one: Client,
    ref: str,
    attributes: Mapping[str, str],
    inputs: Mapping[str, solver_pb2.Definition],
) -> dict[str, bytes]:
    pb = gateway_pb2
    await one.gateway("Ping", pb.PingRequest(), pb.PongResponse, ref)
    wanted = pb.SolveRequest(
        Frontend="dockerfile.v0", FrontendOpt=dict(attributes), FrontendInputs=dict(inputs)
    )
    try:
        solved = await one.gateway("Solve", wanted, pb.SolveResponse, ref)
        decision = pb.ReturnRequest(result=solved.result)
    except GRPCError as error:
        decision = pb.ReturnRequest()
        decision.error.code, decision.error.message = error.status.value, error.message or ""
        for detail in error.details or ():
            assert isinstance(detail, errors_pb2.Source)
            decision.error.details.add().Pack(detail)
    await one.gateway("Return", decision, pb.ReturnResponse, ref)
    return dict(decision.result.metadata)


def _result(
    response: dict[str, str], metadata: dict[str, bytes], told: list[control_pb2.StatusResponse]
) -> Result:
    result = Result(response, {}, b"", [], metadata)
    for one in told:
        for vertex in one.vertexes:
            result.vertices[vertex.digest] = vertex
        result.logs += b"".join(log.msg for log in one.logs)
        result.warnings += [bytes(warning.short).decode() for warning in one.warnings]
    return result
