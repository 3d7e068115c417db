"""gRPC on streams of ours: grpclib as server or client, whichever side opened the connection.

grpclib wants an asyncio transport. Docker's `/grpc` and `/session` give a connection that was
HTTP/1.1 before, perhaps with TLS, perhaps with bytes already read: a `Stream`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import Message
from grpclib import client, const, server
from grpclib.client import Handler
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec, ProtoStatusDetailsCodec
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from h2.events import StreamReset

from sampan.http.stream import Stream

if TYPE_CHECKING:
    from grpclib._typing import IServable

_MUCH: Final = 1 << 20  # bytes that wait for a slow peer before grpclib is told to stop
_RECEIVE: Final = 256 << 10


class _Transport(asyncio.Transport):
    """What grpclib writes to; `carry` moves the bytes."""

    def __init__(self, stream: Stream, protocol: H2Protocol) -> None:
        super().__init__()
        self._stream, self._protocol = stream, protocol
        self._waiting: list[bytes] = []
        self._size = 0
        self._paused = False
        self._wake = asyncio.Event()
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._waiting.append(bytes(data))
        self._size += len(data)
        if self._size > _MUCH and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    abort = close

    async def carry(self) -> None:
        """Move bytes both ways until either side ends; grpclib is told of the end."""
        self._protocol.connection_made(self)
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._send())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._protocol.connection_lost(None)
        for task in tasks:
            fault = None if task.cancelled() else task.exception()
            if fault is not None and not isinstance(fault, OSError):
                raise fault

    async def _receive(self) -> None:
        while data := await self._stream.receive(_RECEIVE):
            self._protocol.data_received(data)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            parts, self._waiting = self._waiting, []
            if parts:
                await self._stream.send(*parts)
                self._size -= sum(map(len, parts))
            elif self._closing:
                return
            if self._paused and self._size <= _MUCH // 2:
                self._paused = False
                self._protocol.resume_writing()


class _Methods(dict[str, const.Handler]):
    """The methods of all services; the others are refused in a form that Go's clients read.

    grpclib's own refusal has no content type, and counts as a broken answer.
    """

    def get(self, path: str, _: Any = None) -> const.Handler:
        return super().get(path, _UNKNOWN)


async def _refuse(_: server.Stream[Any, Any]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "unknown service or method")


_UNKNOWN: Final = const.Handler(_refuse, const.Cardinality.STREAM_STREAM, Message, Message)


async def serve(stream: Stream, services: Collection[IServable]) -> None:
    """Answer calls until the peer leaves or the caller is cancelled; calls then are cancelled.

    HTTP/2 begins with the next byte of the stream ("prior knowledge").
    """
    host = server.Server(
        services, codec=ProtoCodec(), status_details_codec=ProtoStatusDetailsCodec()
    )
    host._mapping = _Methods(host._mapping)
    protocol = host._protocol_factory()
    try:
        await _Transport(stream, protocol).carry()
    finally:
        handler = protocol.handler
        assert isinstance(handler, server.Handler)
        handler.close()
        await handler.wait_closed()


class _Asking(H2Protocol):
    """Our side of calls that we make."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        processor = self.processor
        reset = processor.process_stream_reset

        def forgive(event: StreamReset) -> None:
            # A server may answer before it has all of the request, and then says that it wants no
            # more by RST_STREAM(NO_ERROR): the answer counts (RFC 9113, 8.1; Go's servers do so).
            stream = processor.streams.get(event.stream_id)
            if event.error_code or stream is None or stream.trailers is None:
                reset(event)

        processor.processors[StreamReset] = forgive


class _Channel(client.Channel):
    """A channel on a connection that is there."""

    def _protocol_factory(self) -> H2Protocol:
        return _Asking(Handler(), self._config, self._h2_config)

    def use(self, protocol: H2Protocol) -> None:
        self._protocol = protocol

    async def _create_connection(self) -> H2Protocol:
        raise ConnectionResetError("the client has ended its session")


@asynccontextmanager
async def connected(stream: Stream) -> AsyncIterator[tuple[client.Channel, asyncio.Task[None]]]:
    """Make calls to the peer of a stream; the task ends when the peer has left."""
    channel = _Channel(codec=ProtoCodec(), status_details_codec=ProtoStatusDetailsCodec())
    protocol = channel._protocol_factory()
    transport = _Transport(stream, protocol)
    task = asyncio.ensure_future(transport.carry())
    await asyncio.sleep(0)  # until the connection is made
    channel.use(protocol)
    try:
        yield channel, task
    finally:
        channel.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
