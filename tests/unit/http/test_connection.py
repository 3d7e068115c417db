"""HTTP as bytes: what a client sends, and what it must get."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.http.connection import Connection
from sampan.http.limits import Limits
from sampan.http.request import Request

Talk = Callable[..., None]
GET = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_follow_one_another_on_one_connection(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        for _ in range(3):
            await peer.send(GET)
            answer = await peer.until(b"OK")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\nServer: test\r\nDate: ")

    talk(client)


def test_pipelined_requests_are_answered_in_order(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(GET + b"GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await peer.rest()
        assert answer.index(b"OK") < answer.index(b"three")

    talk(client)


def test_head_has_the_length_but_no_body(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"HEAD /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await peer.rest()
        assert b"Content-Length: 2\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    talk(client)


def test_a_stream_is_chunked_and_every_piece_is_sent_at_once(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await peer.until(b"first")
        assert b"Transfer-Encoding: chunked" in answer

    talk(client)


def test_a_stream_to_a_client_of_http_1_0_ends_with_the_connection(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"GET /count HTTP/1.0\r\n\r\n")
        answer = await peer.rest()
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nonetwothree")

    talk(client)


def test_a_stream_that_fails_is_cut_so_that_the_client_notices(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"GET /break HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await peer.rest()
        assert b"begin" in answer
        assert not answer.endswith(b"0\r\n\r\n")

    talk(client)


def test_expect_continue_is_answered_only_when_the_body_is_wanted(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        head = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        wanted = connect()
        await wanted.send(b"POST /echo" + head)
        assert (await wanted.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await wanted.send(b"body")
        assert (await wanted.until(b"body")).startswith(b"HTTP/1.1 200 ")
        unwanted = connect()
        await unwanted.send(b"POST /ignore" + head)
        assert (await unwanted.rest()).startswith(b"HTTP/1.1 200 ")

    talk(client)


def test_an_unread_body_does_not_become_the_next_request(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        inner = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        head = b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner)
        await peer.send(head + inner + GET)
        answer = await peer.until(b"\r\n\r\nOK")
        assert b"404" not in answer

    talk(client)


def test_a_long_unread_body_ends_the_connection_after_the_answer(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
        await peer.send(b"x" * 20000)
        assert b"unread" in await peer.rest()

    talk(client)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /ping HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
            b"400",
        ),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET /ping HTTP/1.1\r\nHost : x\r\n\r\n", b"400"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", b"400"),  # TLS
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20000, b"431"),
    ],
)
def test_what_is_no_honest_http_is_refused_and_the_connection_closed(
    talk: Talk, request_bytes: bytes, status: bytes
) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(request_bytes)
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"malformed HTTP request: " in answer
        assert b"onnection: close" in answer
        assert b"Traceback" not in answer

    talk(client)


@pytest.mark.parametrize(
    "chunk", [b"xyz\r\nabc", b"-1\r\n", b"5\r\nabcXX\r\n\r\n", b"ffffffffffffffffffff1\r\n"]
)
def test_a_broken_chunk_is_an_error_of_the_request(talk: Talk, chunk: bytes) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(chunk)
        await peer.loop.run_in_executor(None, peer.sock.shutdown, socket.SHUT_WR)
        assert b"malformed request body: " in await peer.rest()

    talk(client)


def test_a_client_that_drips_its_headers_is_cut_off(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"GET /ping HT")
        assert await peer.rest() == b""

    talk(client)


def test_an_idle_connection_is_closed_after_its_time(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(GET)
        assert (await peer.rest()).endswith(b"OK")

    talk(client)


def test_a_taken_over_connection_begins_with_the_bytes_already_read(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        head = b"POST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n"
        await peer.send(head + b"Content-Length: 2\r\n\r\n{}early")
        answer = await peer.until(b"early")
        assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        assert b"{}" not in answer
        await peer.send(b"later")
        await peer.until(b"later")

    talk(client)


def test_a_taken_over_connection_survives_the_clients_half_close(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        await peer.send(b"POST /hijack HTTP/1.1\r\nHost: x\r\n\r\nstdin")
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await peer.rest()).endswith(b"\r\n\r\nstdin<eof>")

    talk(client)


def test_a_streaming_handler_ends_when_its_client_leaves(talk: Talk) -> None:
    async def client(connect: Any, server: Any) -> None:
        peer = connect()
        await peer.send(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.until(b"first")
        peer.sock.close()
        async with asyncio.timeout(2):
            while server._connections:
                await asyncio.sleep(0.01)

    talk(client)


def test_a_streaming_handler_goes_on_for_a_half_closed_unix_client(talk: Talk) -> None:
    async def client(connect: Any, server: Any) -> None:
        peer = connect()
        await peer.send(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        peer.sock.shutdown(socket.SHUT_WR)
        await peer.until(b"first")
        await asyncio.sleep(0.05)
        assert len(server._connections) == 1

    talk(client)


def test_a_stopping_server_ends_idle_and_endless_connections_at_once(
    talk: Talk, quick: Limits
) -> None:
    async def client(connect: Any, server: Any) -> None:
        idle, endless = connect(), connect()
        await idle.send(GET)
        await idle.until(b"OK")
        await endless.send(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        await endless.until(b"first")
        async with asyncio.timeout(2):
            await server.stop()
        assert await idle.rest() == b""

    talk(client, limits=replace(quick, grace_seconds=60.0, idle_seconds=60.0))


def test_more_clients_than_allowed_are_turned_away(talk: Talk, quick: Limits) -> None:
    async def client(connect: Any, server: Any) -> None:
        first = connect()
        await first.send(GET)
        await first.until(b"OK")
        listener = socket.create_server(("127.0.0.1", 0))
        server.listen(listener)
        with socket.create_connection(listener.getsockname()) as second:
            second.setblocking(False)
            answer = await asyncio.get_running_loop().sock_recv(second, 100)
        assert answer.startswith(b"HTTP/1.1 503 ")

    talk(client, limits=replace(quick, connections=1, idle_seconds=60.0))


@pytest.mark.parametrize("idle", [True, False])
def test_who_has_most_connections_gives_one_to_a_newcomer(
    talk: Talk, quick: Limits, idle: bool
) -> None:
    async def client(connect: Any, server: Any) -> None:
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        server.listen(listener)
        place = listener.getsockname()

        async def come(address: str) -> socket.socket:
            sock = socket.create_connection(place, source_address=(address, 0))
            sock.setblocking(False)
            await loop.sock_sendall(
                sock, GET if idle else b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            return sock

        with ExitStack() as stack:
            modest = stack.enter_context(await come("127.0.0.2"))
            greedy = [stack.enter_context(await come("127.0.0.1")) for _ in range(3)]
            for sock in (modest, *greedy):
                assert (await loop.sock_recv(sock, 4096)).startswith(b"HTTP/1.1 200 ")
            for address in ("127.0.0.3", "127.0.0.4"):
                newcomer = stack.enter_context(await come(address))
                assert (await loop.sock_recv(newcomer, 4096)).startswith(b"HTTP/1.1 200 ")
            one_more = stack.enter_context(await come("127.0.0.1"))
            assert (await loop.sock_recv(one_more, 4096)).startswith(b"HTTP/1.1 503 ")
            await loop.sock_sendall(modest, GET)

    talk(client, limits=replace(quick, connections=4, idle_seconds=60.0))


def test_a_bug_in_the_handler_ends_only_its_own_connection(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        bad, good = connect(), connect()
        await bad.send(b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await bad.rest() == b""
        await good.send(GET)
        await good.until(b"OK")

    talk(client)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    b"GET /echo HTTP/1.1\r\n",
                    b"POST /echo HTTP/1.1\r\n",
                    b"POST /hijack HTTP/1.0\r\n",
                    b"HEAD /count HTTP/1.1\r\n",
                    b"Host: x\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"Content-Length: 3\r\n",
                    b"Expect: 100-continue\r\n",
                    b"Connection: upgrade\r\nUpgrade: tcp\r\n",
                    b"\r\n",
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                ]
            ),
        ),
        max_size=12,
    )
)
def test_no_bytes_break_the_server(talk: Talk, pieces: list[bytes]) -> None:
    async def client(connect: Any, server: Any) -> None:
        peer = connect()
        await peer.send(b"".join(pieces))
        peer.sock.shutdown(socket.SHUT_WR)
        answer = await peer.rest()
        if answer and b" 101 " not in answer:
            reader = h11.Connection(h11.CLIENT)
            reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
            reader.receive_data(answer)
            assert isinstance(reader.next_event(), h11.Response | h11.InformationalResponse)
        good = connect()
        await good.send(GET)
        await good.until(b"OK")

    talk(client)


def test_a_connection_that_was_watched_goes_on_with_the_next_request(talk: Talk) -> None:
    async def client(connect: Any, _: Any) -> None:
        peer = connect()
        for _ in range(20):
            await peer.send(b"GET /watched HTTP/1.1\r\nHost: x\r\n\r\n")
            await peer.until(b"done")
            await asyncio.sleep(0.001)  # the server waits for the next request before it comes
            await peer.send(GET)
            await peer.until(b"\r\n\r\nOK")

    talk(client)


def test_a_client_that_is_gone_when_it_is_answered_is_no_fault_of_the_handler() -> None:
    """What was asked for is begun all the same, as Docker does; the end of its input is the end."""

    class Gone:
        """A stream whose other end has closed after its request."""

        def __init__(self) -> None:
            self.sent = [b"POST /up HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n"]

        async def receive(self, size: int = 0) -> bytes:
            return self.sent.pop() if self.sent else b""

        async def send(self, *parts: bytes) -> None:
            raise BrokenPipeError

        async def close_write(self) -> None:
            pass

        async def disconnected(self) -> None:
            pass

        def close(self, clean: bool = False) -> None:
            pass

    read: list[bytes] = []

    async def handler(request: Request) -> None:
        stream = await request.take_over(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
        read.append(await stream.receive())

    stream: Any = Gone()
    asyncio.run(Connection(stream, handler, Limits(), []).run())
    assert read == [b""]
