"""gRPC on streams of ours: both sides, slow peers, peers that leave, and peers that lie."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Stream

from sampan.http.grpc import Bulk, connected, serve
from sampan.http.stream import SocketStream
from sampan.spec.buildkit.session_pb2 import BytesMessage

ECHO = "/test.Echo/Echo"
HEAD = [
    (":method", "POST"), (":scheme", "http"), (":authority", "x"), ("te", "trailers"),
    ("content-type", "application/grpc"),
]  # fmt: skip


class Echo:
    """Says what it hears; `wait` never does."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.called = asyncio.Event()

    def __mapping__(self) -> dict[str, Handler]:
        kinds = Cardinality.UNARY_UNARY, BytesMessage, BytesMessage
        return {ECHO: Handler(self.echo, *kinds), "/test.Echo/Wait": Handler(self.wait, *kinds)}

    async def echo(self, stream: Stream[Any, Any]) -> None:
        message = await stream.recv_message()
        if message.data == b"no":
            raise GRPCError(Status.NOT_FOUND, "no such thing")
        await stream.send_message(message)

    async def wait(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        self.called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def pair() -> tuple[SocketStream, SocketStream]:
    one, other = socket.socketpair()
    return SocketStream(one), SocketStream(other)


def call(channel: Channel, path: str = ECHO) -> Callable[[BytesMessage], Awaitable[Any]]:
    return UnaryUnaryMethod(channel, path, BytesMessage, BytesMessage)


def talking(test: Callable[[Channel, Echo], Awaitable[None]]) -> None:
    """Run a test with a client of a server."""

    async def run() -> None:
        ours, theirs = pair()
        echo = Echo()
        task = asyncio.ensure_future(serve(theirs, [echo]))
        try:
            async with connected(ours) as (channel, _), asyncio.timeout(20):
                await test(channel, echo)
        finally:
            task.cancel()
            await asyncio.wait([task])
            ours.close()
            theirs.close()

    asyncio.run(run())


def test_a_call_is_answered() -> None:
    async def test(channel: Channel, _: Echo) -> None:
        assert (await call(channel)(BytesMessage(data=b"hi"))).data == b"hi"

    talking(test)


def test_messages_larger_than_every_window_pass_both_ways_at_once() -> None:
    async def test(channel: Channel, _: Echo) -> None:
        contents = [os.urandom(9 << 20) for _ in range(3)]
        calls = [call(channel)(BytesMessage(data=content)) for content in contents]
        answers = await asyncio.gather(*calls)
        assert [answer.data for answer in answers] == contents

    talking(test)


def test_errors_keep_their_status_and_sentence() -> None:
    async def test(channel: Channel, _: Echo) -> None:
        with pytest.raises(GRPCError, match="no such thing") as raised:
            await call(channel)(BytesMessage(data=b"no"))
        assert raised.value.status is Status.NOT_FOUND
        with pytest.raises(GRPCError) as raised:
            await call(channel, "/test.Echo/None")(BytesMessage())
        assert raised.value.status is Status.UNIMPLEMENTED

    talking(test)


def test_a_message_that_is_too_large_is_refused_by_its_length_alone() -> None:
    async def test(channel: Channel, _: Echo) -> None:
        kinds = Cardinality.UNARY_UNARY, BytesMessage, BytesMessage
        with pytest.raises(GRPCError, match="more than 16777216") as raised:
            async with channel.request(ECHO, *kinds) as stream:
                await stream.send_request()
                await stream._stream.send_data(b"\0\xff\xff\xff\xf0")
                await stream.recv_message()
        assert raised.value.status is Status.RESOURCE_EXHAUSTED

    talking(test)


def test_a_client_that_leaves_cancels_its_calls() -> None:
    async def run() -> None:
        ours, theirs = pair()
        echo = Echo()
        task = asyncio.ensure_future(serve(theirs, [echo]))
        async with connected(ours) as (channel, _):
            waiting = asyncio.ensure_future(call(channel, "/test.Echo/Wait")(BytesMessage()))
            await echo.called.wait()
            ours.close()
            async with asyncio.timeout(20):
                await task
            assert echo.cancelled.is_set()
            waiting.cancel()
            await asyncio.wait([waiting])
        theirs.close()

    asyncio.run(run())


def test_a_server_that_leaves_ends_the_calls_and_refuses_new_ones() -> None:
    async def run() -> None:
        ours, theirs = pair()
        echo = Echo()
        task = asyncio.ensure_future(serve(theirs, [echo]))
        async with connected(ours) as (channel, ended), asyncio.timeout(20):
            waiting = asyncio.ensure_future(call(channel, "/test.Echo/Wait")(BytesMessage()))
            await echo.called.wait()
            task.cancel()
            await asyncio.wait([task])
            theirs.close()
            with pytest.raises(StreamTerminatedError):
                await waiting
            await ended
            with pytest.raises(ConnectionResetError, match="has ended its session"):
                await call(channel)(BytesMessage())
        ours.close()

    asyncio.run(run())


class Flood(Echo):
    """Answers one message with many."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.heard: list[bytes] = []

    def __mapping__(self) -> dict[str, Handler]:
        kinds = Cardinality.STREAM_STREAM, BytesMessage, BytesMessage
        return {ECHO: Handler(self.flood, *kinds)}

    async def flood(self, stream: Stream[Any, Any]) -> None:
        for number, size in enumerate(self.sizes):
            await stream.send_message(BytesMessage(data=bytes([number % 256]) * size))
        while (message := await stream.recv_message()) is not None:
            self.heard.append(message.data)


def flooded(sizes: list[int], *, most: int | None = None) -> tuple[list[bytes], list[bytes]]:
    """Take messages of these sizes in bulk; return what came, and what the server heard."""
    came: list[bytes] = []
    flood: Flood

    async def run() -> None:
        nonlocal flood
        ours, theirs = pair()
        flood = Flood(sizes)
        serving = asyncio.ensure_future(serve(theirs, [flood]))
        all_there = asyncio.get_running_loop().create_future()

        def take(message: bytes) -> None:
            if most is not None and len(came) == most:
                raise ValueError("enough")
            came.append(BytesMessage.FromString(message).data)
            if len(came) == len(sizes):
                all_there.set_result(None)

        try:
            async with connected(ours) as (channel, _), asyncio.timeout(30):
                kinds = Cardinality.STREAM_STREAM, BytesMessage, BytesMessage
                async with channel.request(ECHO, *kinds) as stream:
                    bulk = Bulk(stream, take, all_there.set_exception)
                    await bulk.open()
                    await all_there
                    bulk.close()
                    await bulk.send([BytesMessage(data=b"%d" % n) for n in range(1000)])
                    await stream.send_message(BytesMessage(data=b"end"), end=True)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            ours.close()
            theirs.close()

    asyncio.run(run())
    return came, flood.heard


@pytest.mark.parametrize(
    "sizes",
    [
        [0],
        list(range(300)),  # one of them makes a window update with a percent sign in it
        [5_000_000, 1, 12_000_000, 16_370, 16_371, 16_384],
        [20] * 5_000,
    ],
    ids=["nothing", "small", "large", "many"],
)
def test_messages_in_bulk_arrive_whole_and_in_order(sizes: list[int]) -> None:
    came, heard = flooded(sizes)
    assert came == [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    assert heard == [*(b"%d" % n for n in range(1000)), b"end"]


def test_who_does_not_want_a_message_hears_of_it_once() -> None:
    with pytest.raises(ValueError, match="enough"):
        flooded([5] * 100, most=3)


def test_a_message_that_is_too_large_ends_the_call() -> None:
    with pytest.raises(StreamTerminatedError, match="too large"):
        flooded([17 << 20])


@pytest.mark.parametrize("code", [0, 2])
def test_a_complete_answer_counts_though_the_rest_of_the_request_is_refused(code: int) -> None:
    """As Go's servers do: answer, trailers, RST_STREAM(NO_ERROR), all at once; not with a fault."""

    async def server(stream: SocketStream) -> None:
        config = h2.config.H2Configuration(client_side=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        await stream.send(connection.data_to_send())
        while True:
            for event in connection.receive_data(await stream.receive()):
                if isinstance(event, h2.events.DataReceived):
                    number = event.stream_id
                    fields = [(":status", "200"), ("content-type", "application/grpc")]
                    connection.send_headers(number, fields)
                    body = BytesMessage(data=b"early").SerializeToString()
                    connection.send_data(number, b"\0" + len(body).to_bytes(4, "big") + body)
                    connection.send_headers(number, [("grpc-status", "0")], end_stream=True)
                    data = connection.data_to_send()
                    reset = b"\0\0\4\3\0" + number.to_bytes(4, "big") + code.to_bytes(4, "big")
                    await stream.send(data + reset)
            await stream.send(connection.data_to_send())

    heard: list[bytes] = []

    async def ask(channel: Channel) -> None:
        kinds = Cardinality.STREAM_STREAM, BytesMessage, BytesMessage
        async with channel.request(ECHO, *kinds) as stream:
            await stream.send_message(BytesMessage(data=b"first of many"))
            while (answer := await stream.recv_message()) is not None:
                heard.append(answer.data)
            raise StreamTerminatedError("there is no more")

    async def run() -> None:
        ours, theirs = pair()
        task = asyncio.ensure_future(server(theirs))
        try:
            async with connected(ours) as (channel, _), asyncio.timeout(20):
                with pytest.raises(StreamTerminatedError):
                    await ask(channel)
                assert heard == ([] if code else [b"early"])
        finally:
            task.cancel()
            await asyncio.wait([task])
            ours.close()
            theirs.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff",
        os.urandom(5000),
    ],
)
def test_what_is_no_http2_ends_the_connection(data: bytes) -> None:
    async def run() -> None:
        ours, theirs = pair()
        task = asyncio.ensure_future(serve(theirs, [Echo()]))
        await ours.send(data)
        async with asyncio.timeout(20):
            await ours.close_write()
            await task
        ours.close()
        theirs.close()

    asyncio.run(run())
