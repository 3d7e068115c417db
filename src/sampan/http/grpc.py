"""gRPC on streams of ours: grpclib as server or client, whichever side opened the connection.

grpclib wants an asyncio transport. Docker's `/grpc` and `/session` give a connection that was
HTTP/1.1 before, perhaps with TLS, perhaps with bytes already read: a `Stream`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from google.protobuf.any_pb2 import Any as Any_
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpclib import client, const, server
from grpclib.client import Handler
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec, ProtoStatusDetailsCodec
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import Connection, H2Protocol
from grpclib.protocol import Stream as PeerStream
from grpclib.utils import Wrapper
from h2.events import StreamReset

if TYPE_CHECKING:
    from grpclib._typing import IServable

log = logging.getLogger(__name__)
_MUCH: Final = 1 << 20  # bytes that wait for a slow peer before grpclib is told to stop
_RECEIVE: Final = 256 << 10
_HEAD: Final = 9  # bytes of the header of a frame (RFC 9113, 4.1)
_PLAIN_DATA: Final = b"\0\0"  # type DATA, without padding, not the last
_WINDOW_UPDATE: Final = b"\0\0\4\x08\0"
_LARGEST: Final = 1 << 20  # of a frame that we keep until it is complete; h2 allows 16 KiB
_MESSAGE: Final = 16 << 20  # bytes of a message


class Duplex(Protocol):
    """As much of a `Stream` as HTTP/2 needs."""

    async def receive(self, size: int = ...) -> bytes:
        """Return the next bytes; b"" at the end."""

    async def send(self, *parts: bytes) -> None:
        """Send all bytes."""


class _Transport(asyncio.Transport):
    """What grpclib writes to; `carry` moves the bytes."""

    def __init__(self, stream: Duplex, protocol: H2Protocol) -> None:
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
        if self._closing:
            return
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
        _bound_messages(self._protocol.connection)
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._send())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._protocol.resume_writing()  # who waits for a peer that is gone waits for ever
            self._protocol.connection_lost(None)
        for task in tasks:
            fault = None if task.cancelled() else task.exception()
            if fault is not None and not isinstance(fault, OSError):
                raise fault

    async def _receive(self) -> None:
        while data := await self._stream.receive(_RECEIVE):
            if self._closing:  # grpclib has taken its connection apart
                return
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


def _bound_messages(connection: Connection) -> None:
    """Refuse messages that are too long to be kept: grpclib itself takes 4 GiB."""
    create = connection.create_stream

    def bounded(*, stream_id: int | None = None, wrapper: Wrapper | None = None) -> PeerStream:
        stream = create(stream_id=stream_id, wrapper=wrapper)
        receive = stream.recv_data

        async def recv_data(size: int) -> bytes:
            if size > _MESSAGE:
                raise GRPCError(
                    Status.RESOURCE_EXHAUSTED, f"a message has {size} bytes, more than {_MESSAGE}"
                )
            return await receive(size)

        stream.recv_data = recv_data  # type: ignore[method-assign]
        return stream

    connection.create_stream = bounded  # type: ignore[method-assign]


class _Details(ProtoStatusDetailsCodec):
    """Sends details that came from a peer as they are: whatever they are of."""

    def encode(
        self, status: Status, message: str | None, details: Sequence[Message] | None
    ) -> bytes:
        told = status_pb2.Status(code=status.value, message=message or "")
        for detail in details or ():
            if isinstance(detail, Any_):
                told.details.append(detail)
            else:
                told.details.add().Pack(detail)
        return bytes(told.SerializeToString())


class _Methods(dict[str, const.Handler]):
    """The methods of all services; the others are refused in a form that Go's clients read.

    grpclib's own refusal has no content type, and counts as a broken answer.
    """

    def get(self, path: str, _: Any = None) -> const.Handler:
        return super().get(path, _UNKNOWN)


async def _refuse(_: server.Stream[Any, Any]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "unknown service or method")


_UNKNOWN: Final = const.Handler(_refuse, const.Cardinality.STREAM_STREAM, Message, Message)


async def serve(stream: Duplex, services: Collection[IServable]) -> None:
    """Answer calls until the peer leaves or the caller is cancelled; calls then are cancelled.

    HTTP/2 begins with the next byte of the stream ("prior knowledge").
    """
    host = server.Server(services, codec=ProtoCodec(), status_details_codec=_Details())
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

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.bulks: dict[int, Bulk] = {}  # by stream
        self._rest = b""  # of a frame that is not complete

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

    def data_received(self, data: bytes) -> None:
        """Hand what belongs to a bulk to it, and everything else to h2."""
        data = self._rest + data if self._rest else data
        at, passed, end, others = 0, 0, len(data), []
        while end - at >= _HEAD:
            size = int.from_bytes(data[at : at + 3], "big")
            if end - at < _HEAD + size <= _LARGEST:
                break
            number = int.from_bytes(data[at + 5 : at + _HEAD], "big")
            bulk = self.bulks.get(number) if data[at + 3 : at + 5] == _PLAIN_DATA else None
            if bulk is not None:
                others.append(data[passed:at])
                passed = at + _HEAD + size
                bulk.feed(data[at + _HEAD : passed])
            at = min(at + _HEAD + size, end)
        self._rest = data[at:]
        others.append(data[passed:at])
        if plain := b"".join(others):
            super().data_received(plain)
        for bulk in self.bulks.values():
            bulk.acknowledge()


class Bulk:
    """Takes the many small messages of one call as they arrive.

    A turn of a task, and the objects of h2 and grpclib, cost ten times what a message of file sync
    is worth (decision 031): here it costs a slice. `take` gets each message, and `fail` the first
    error, after which nothing is taken; both are called in the event loop.
    """

    def __init__(
        self,
        stream: client.Stream[Any, Any],
        take: Callable[[bytes], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._stream, self._take, self._fail = stream, take, fail
        self._waiting = bytearray()
        self._received = 0  # bytes that the peer may send again
        self._failed = False
        self._protocol: _Asking | None = None

    async def open(self) -> None:
        """Send the request. Its answer cannot come before this returns."""
        await self._stream.send_request()
        protocol = self._stream._channel._protocol
        assert isinstance(protocol, _Asking)
        self._protocol = protocol
        protocol.bulks[self.number] = self

    @property
    def number(self) -> int:
        """The number of the HTTP/2 stream."""
        number = self._stream._stream.id
        assert number is not None
        return number

    def close(self) -> None:
        """Take no more."""
        if self._protocol is not None:
            self._protocol.bulks.pop(self.number, None)

    async def send(self, messages: Iterable[Message]) -> None:
        """Send several messages at once."""
        raw = [message.SerializeToString() for message in messages]
        framed = b"".join(b"\0" + len(one).to_bytes(4, "big") + one for one in raw)
        await self._stream._stream.send_data(framed)

    def feed(self, data: bytes) -> None:
        """Take the messages that are complete now."""
        self._received += len(data)
        if self._failed:
            return
        self._waiting += data
        at, end = 0, len(self._waiting)
        try:
            while end - at >= 5:
                size = int.from_bytes(self._waiting[at + 1 : at + 5], "big")
                if self._waiting[at] or size > _MESSAGE:
                    raise StreamTerminatedError("a message is compressed, or too large")
                if end - at < 5 + size:
                    break
                self._take(bytes(self._waiting[at + 5 : at + 5 + size]))
                at += 5 + size
        except Exception as error:  # noqa: BLE001 - whoever made the call hears of it
            self._failed, at = True, end
            self._fail(error)
        del self._waiting[:at]

    def acknowledge(self) -> None:
        """Let the peer send as much again."""
        if self._received and self._protocol is not None:
            size = self._received.to_bytes(4, "big")
            streams = self.number.to_bytes(4, "big"), bytes(4)  # this one, and the connection
            update = b"".join(_WINDOW_UPDATE + stream + size for stream in streams)
            self._protocol.connection._transport.write(update)
            self._received = 0


class _Channel(client.Channel):
    """A channel on a connection that is there."""

    def _protocol_factory(self) -> H2Protocol:
        return _Asking(Handler(), self._config, self._h2_config)

    def use(self, protocol: H2Protocol) -> None:
        self._protocol = protocol

    async def _create_connection(self) -> H2Protocol:
        raise ConnectionResetError("the client has ended its session")


@asynccontextmanager
async def connected(stream: Duplex) -> AsyncIterator[tuple[client.Channel, asyncio.Task[None]]]:
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
        await asyncio.wait([task])
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("a connection broke", exc_info=fault)
