"""The client of HTTP, against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import pytest

from sampan.http.client import Client
from sampan.http.exchange import Exchange, Source
from sampan.http.faults import (
    BrokenFault,
    Fault,
    MalformedFault,
    TimeoutFault,
)
from sampan.http.limits import ClientLimits
from sampan.http.pump import Halt
from sampan.http.urls import Url
from sampan.http.wire import Wire
from tests.scripted import PATIENT, QUICK, Peer, Script, answering, get, ok, poured, run, scripted
from tests.session import PATIENCE

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def fails(kind: type[Fault], script: Script, work: Callable[[Client, str], Any] = get) -> str:
    """Return what the fault says."""
    limits = QUICK if kind is TimeoutFault else PATIENT
    with scripted(script) as server, pytest.raises(kind) as caught:
        run(lambda client: work(client, f"http://{server.address}/x"), limits=limits)
    return str(caught.value)


# --- requests, answers and kept connections --------------------------------------------------


def test_a_request_is_answered() -> None:
    heads = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.say(ok(b"hello"))
        peer.drain()

    with scripted(script) as server:
        assert run(lambda client: get(client, f"http://{server.address}/a?b=c d")) == b"hello"
    assert heads[0].split(b"\r\n") == [
        b"GET /a?b=c%20d HTTP/1.1",
        b"Host: " + server.address.encode(),
        b"User-Agent: sampan",
    ]


def test_connections_are_kept_for_the_next_request() -> None:
    async def work(client: Client, url: str) -> None:
        for _ in range(3):
            assert await get(client, url) == b"x"
        assert await poured(client, url) == b"x"
        assert await get(client, url) == b"x"

    with scripted(answering(*[ok(b"x")] * 5)) as server:
        run(lambda client: work(client, f"http://{server.address}/"))
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n\r\nx",
        ok(b"x") + b"unasked",
    ],
)
def test_connections_that_cannot_be_kept_are_not(answer: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(answer)

    with scripted(script) as server:

        async def work(client: Client) -> None:
            for _ in range(2):
                assert await get(client, f"http://{server.address}/") == b"x"

        run(work)
        assert server.connections == 2


def test_idle_connections_end_by_themselves() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.say(ok(b"x"))
        assert not peer.head()
        gone.set()

    async def work(client: Client) -> None:
        await get(client, f"http://{server.address}/")
        assert await asyncio.to_thread(gone.wait, PATIENCE)
        assert not client._idle

    with scripted(script) as server:
        run(work, limits=ClientLimits(idle_seconds=0.05))


def test_a_kept_connection_that_has_died_is_replaced() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.say(ok(b"x"))
        gone.set()

    with scripted(script) as server:

        async def work(client: Client) -> None:
            for _ in range(3):
                gone.clear()
                assert await get(client, f"http://{server.address}/") == b"x"
                await asyncio.to_thread(gone.wait, 5)

        run(work)


def test_a_connection_with_an_unread_body_is_not_kept() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        peer.drain()

    with scripted(script) as server:

        async def work(client: Client) -> None:
            for _ in range(2):
                async with await client.send("GET", Url.parse(f"http://{server.address}/")):
                    pass

        run(work)
        assert server.connections == 2


def test_head_has_a_length_and_no_body() -> None:
    with scripted(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", ok())) as server:

        async def work(client: Client) -> None:
            for method in ("HEAD", "GET"):
                url = Url.parse(f"http://{server.address}/")
                async with await client.send(method, url) as answer:
                    assert answer.content_length == (77 if method == "HEAD" else 0)

        run(work)
        assert server.connections == 1


def test_answers_before_the_real_one_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with scripted(answering(early * 3 + ok(b"x"))) as server:
        assert run(lambda client: get(client, f"http://{server.address}/")) == b"x"
    assert "broken" in fails(MalformedFault, answering(early * 9 + ok(b"x")))


@pytest.mark.parametrize("size", [0, 1, 100, 300_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bodies_are_poured_by_a_thread(size: int, framing: str) -> None:
    body = os.urandom(size)

    def script(peer: Peer) -> None:
        peer.head()
        if framing == "length":
            peer.say(ok(body))
            peer.drain()
        elif framing == "close":
            peer.say(b"HTTP/1.1 200 OK\r\n\r\n", body)
        else:
            peer.say(CHUNKED)
            for at in range(0, size, 70_000):
                piece = body[at : at + 70_000]
                peer.say(b"%x\r\n%b\r\n" % (len(piece), piece))
            peer.say(b"0\r\n\r\n")
            peer.drain()

    with scripted(script) as server:
        assert run(lambda client: poured(client, f"http://{server.address}/")) == body


@pytest.mark.parametrize("value", ["a\r\nEvil: yes", "a\x00", "caf\u00e9", "\u2028"])
def test_a_header_that_cannot_be_sent_is_refused(value: str) -> None:
    def work(client: Client) -> Any:
        return client.send("GET", Url.parse(f"http://{server.address}/"), [("X-Y", value)])

    with scripted(Peer.wait) as server, pytest.raises(Fault, match="invalid header field value"):
        run(work)


# --- servers that do not behave --------------------------------------------------------------


def test_silence_ends_with_the_time_for_an_answer() -> None:
    assert fails(TimeoutFault, Peer.wait) == "net/http: timeout awaiting response headers"


def test_a_drop_now_and_then_is_silence_too() -> None:
    def drip(peer: Peer) -> None:
        peer.head()
        for byte in ok(b"x" * 100):
            peer.say(bytes([byte]))
            if peer.ending.wait(0.02):
                return

    fails(TimeoutFault, drip)


@pytest.mark.parametrize("work", [get, poured])
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", CHUNKED])
def test_a_body_that_stalls_ends(head: bytes, work: Any) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(head)
        while not peer.ending.wait(0.05):
            peer.say(b"1\r\nx\r\n" if head is CHUNKED else b"x")

    assert "timeout" in fails(TimeoutFault, script, work)


@pytest.mark.parametrize("work", [get, poured])
@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345", CHUNKED + b"9\r\n12345"]
)
def test_a_body_that_breaks_off_is_a_fault(part: bytes, work: Any) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(part)

    assert fails(BrokenFault, script, work) == "unexpected EOF"


def test_a_connection_that_ends_without_a_word_is_a_fault() -> None:
    assert fails(BrokenFault, lambda peer: None) in ("EOF", "connection reset by peer")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(answer: bytes) -> None:
    assert fails(MalformedFault, answering(answer))


def test_huge_headers_are_refused() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\n")
        while not peer.ending.is_set():
            peer.say(b"X-Padding: " + b"x" * 1000 + b"\r\n")

    assert "headers exceeded" in fails(MalformedFault, script)


@pytest.mark.parametrize(
    "answer", [ok(b"x" * 1001), CHUNKED + (b"100\r\n" + b"x" * 256 + b"\r\n") * 5]
)
def test_a_document_is_not_read_beyond_its_limit(answer: bytes) -> None:
    assert "larger than 1000" in fails(MalformedFault, answering(answer))


@pytest.mark.parametrize("work", [lambda client, url: get(client, url, 1 << 20), poured])
def test_a_body_of_tiny_chunks_is_not_taken_to_its_end(work: Any) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(CHUNKED + b"1\r\na\r\n" * 5000)
        peer.drain()

    assert "too much non-data" in fails(MalformedFault, script, work)


def test_what_comes_all_at_once_is_parsed_in_turns_with_others() -> None:
    """Without them no limit of time would hold, however long the body."""
    count = 2000
    near, far = socket.socketpair()

    async def work() -> int:
        exchange = Exchange(Wire(near), ClientLimits(), 5)
        request = h11.Request(method="GET", target="/", headers=[("Host", "x")])
        await exchange.send(request, None)
        answer = await exchange.answer(Url.parse("http://x/"), lambda wire: None)
        reading = asyncio.create_task(answer.read(1 << 20))
        turns = 0
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        assert await reading == b"a" * 16 * count
        return turns

    with near, far:
        far.send(CHUNKED + b"10\r\n%b\r\n" % (b"a" * 16) * count + b"0\r\n\r\n")
        assert asyncio.run(work()) > 5


def test_a_broken_chunk_is_refused() -> None:
    for work in (get, poured):
        fails(MalformedFault, answering(CHUNKED + b"zz\r\nhello\r\n"), work)


# --- sending bodies --------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 1_000_000])
def test_a_body_is_read_while_it_is_sent(length: int | None) -> None:
    body = os.urandom(1_000_000)
    got = []

    def script(peer: Peer) -> None:
        head = peer.head().lower()
        assert (b"transfer-encoding: chunked" in head) is (length is None)
        data = peer.seen
        while len(data) < 1_000_000 or not (length or data.endswith(b"0\r\n\r\n")):
            data += peer.sock.recv(65536)
        got.append(data)
        peer.say(ok(b"done"))
        peer.drain()

    async def work(client: Client) -> bytes:
        pieces = iter([body[at : at + 100_000] for at in range(0, len(body), 100_000)])
        source = Source(lambda _: next(pieces, b""), length)
        url = Url.parse(f"http://{server.address}/")
        async with await client.send("PATCH", url, body=source) as answer:
            return await answer.read(100)

    with scripted(script) as server:
        assert run(work) == b"done"
    if length:
        assert got[0] == body
    else:
        assert got[0].startswith(b"%x\r\n" % 100_000)


@pytest.mark.parametrize("closes", [True, False])
def test_an_answer_before_the_end_of_a_body_ends_the_sending(closes: bool) -> None:
    sent = 0

    def script(peer: Peer) -> None:
        peer.head()
        peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        if not closes:
            peer.drain()

    def read(size: int) -> bytes:
        nonlocal sent
        sent += size
        return bytes(size)

    async def work(client: Client) -> tuple[int, bytes]:
        url = Url.parse(f"http://{server.address}/")
        async with await client.send("PUT", url, body=Source(read)) as answer:
            return answer.status, await answer.read(100)

    with scripted(script) as server:
        try:
            assert run(work) == (413, b"no!")
        except BrokenFault:
            assert closes  # the reset was faster than the answer
    assert sent < 1 << 30


def test_a_body_shorter_than_announced_is_our_own_fault() -> None:
    def work(client: Client) -> Any:
        source = Source(lambda _: b"", 5)
        return client.send("PUT", Url.parse(f"http://{server.address}/"), body=source)

    with scripted(Peer.wait) as server, pytest.raises(ValueError, match="length"):
        run(work)


def test_a_reader_that_fails_ends_the_request() -> None:
    def read(_: int) -> bytes:
        raise KeyError("lost")

    with scripted(Peer.wait) as server, pytest.raises(KeyError):
        run(lambda c: c.send("PUT", Url.parse(f"http://{server.address}/"), body=Source(read)))


def test_a_server_that_takes_nothing_stops_an_upload() -> None:
    def script(peer: Peer) -> None:
        peer.ending.wait(1)
        peer.drain()  # else the end of the client is never seen: it stands behind its bytes

    with scripted(script) as server, pytest.raises(TimeoutFault):
        run(
            lambda c: c.send("PUT", Url.parse(f"http://{server.address}/"), body=Source(bytes)),
            limits=QUICK,
        )


# --- cancelling ------------------------------------------------------------------------------


def cancelled(work: Callable[[Client], Awaitable[Any]], ready: threading.Event) -> float:
    """Cancel `work` once it is ready; return how long it took to end."""

    async def main(client: Client) -> float:
        task = asyncio.ensure_future(work(client))
        await asyncio.to_thread(ready.wait, PATIENCE)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    return float(run(main, limits=ClientLimits()))


def test_a_cancelled_download_ends_at_once() -> None:
    ready = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nhalf")
        ready.set()
        peer.wait()

    with scripted(script) as server:
        assert cancelled(lambda client: poured(client, f"http://{server.address}/"), ready) < 20


def test_a_cancelled_download_into_a_full_pipe_ends_at_once() -> None:
    from sampan.http.pump import unblocked

    ready = threading.Event()
    reading, writing = os.pipe()

    async def work(client: Client) -> None:
        def sink(view: memoryview, halt: Halt) -> None:
            ready.set()
            halt.write(writing, view)

        url = Url.parse(f"http://{server.address}/")
        async with await client.send("GET", url) as answer:
            with unblocked(writing):
                await answer.pour(sink)

    with scripted(answering(ok(bytes(1 << 20)))) as server:
        assert cancelled(work, ready) < 20
    assert os.get_blocking(writing)
    os.close(reading)
    os.close(writing)


def test_a_cancelled_upload_ends_at_once() -> None:
    ready = threading.Event()
    count = 0

    def read(size: int) -> bytes:
        nonlocal count
        count += 1
        if count > 20:
            ready.set()
        return bytes(size)

    with scripted(Peer.drain) as server:
        url = Url.parse(f"http://{server.address}/")
        assert cancelled(lambda client: client.send("PUT", url, body=Source(read)), ready) < 20


def test_a_cancelled_request_ends_at_once() -> None:
    ready = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        ready.set()
        peer.wait()

    with scripted(script) as server:
        assert cancelled(lambda client: get(client, f"http://{server.address}/"), ready) < 20
