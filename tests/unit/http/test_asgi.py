"""Applications on our server: what they are told, what they send, and hostile clients."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h11
import pytest
import trustme

from sampan.http import asgi as module
from sampan.http.asgi import POUR, SENDFILE, AsgiAnswer, AsgiServer
from sampan.http.bodies import CutOff
from sampan.http.limits import Limits
from sampan.http.openssl import OpenSSLContext
from sampan.http.tls import TLS
from tests.unit.http.conftest import QUICK, Connect, serve_while

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PUT = b"PUT %b HTTP/1.1\r\nHost: x\r\n"


class Demo:
    """An application that keeps what it was told."""

    def __init__(self, file: Path | None = None) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.gone = 0
        self.full = False
        self.file = file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        answer = getattr(self, scope["path"].strip("/") or "ok", self.ok)
        await answer(scope, receive, send)

    async def start(self, send: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        message = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await send(message)

    async def ok(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send)
        await send({"type": "http.response.body", "body": b"OK"})

    async def read(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await self.ok(scope, receive, send)

    async def pour(self, scope: Any, receive: Any, send: Any) -> None:
        """Take the body in a thread."""
        if POUR not in scope["extensions"]:
            await self.read(scope, receive, send)
            return
        body = bytearray()

        def sink(piece: memoryview) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            body.extend(piece)

        with ThreadPoolExecutor(1) as threads:
            try:
                await scope["extensions"][POUR](sink, threads, 0.2)
            except CutOff:
                self.gone += 1
                self.bodies.append(bytes(body))
                return
            except OSError as error:  # TimeoutError is one
                self.bodies.append(bytes(body))
                await self.start(send, 507 if error.errno else 408)
                await send({"type": "http.response.body"})
                return
        self.bodies.append(bytes(body))
        await self.ok(scope, receive, send)

    async def pieces(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send)
        for piece in (b"one", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def sent(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.file
        assert SENDFILE in scope["extensions"]
        with self.file.open("rb") as file:
            count = self.file.stat().st_size - 3
            await self.start(send, 206, (b"content-length", b"%d" % count))
            await send({"type": SENDFILE, "file": file.fileno(), "offset": 3, "count": count})

    async def short(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send, 200, (b"content-length", b"10"))
        await send({"type": "http.response.body", "body": b"half"})

    async def long(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send, 200, (b"content-length", b"2"))
        await send({"type": "http.response.body", "body": b"half"})

    async def nothing(self, scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    async def half(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("a bug")

    async def split(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send, 200, (b"x", b"a\r\nSet-Cookie: evil"))
        await send({"type": "http.response.body"})

    async def unchanged(self, scope: Any, receive: Any, send: Any) -> None:
        await self.start(send, 304, (b"etag", b'"x"'))
        await send({"type": "http.response.body"})


Script = Callable[[Connect, Demo], Awaitable[None]]


def serve(script: Script, file: Path | None = None, limits: Limits = QUICK) -> None:
    demo = Demo(file)

    async def test(connect: Connect, _: Any) -> None:
        await script(connect, demo)

    serve_while(test, made=AsgiServer(demo, limits))


def answer_to(wire: bytes, file: Path | None = None) -> bytes:
    """Return all that a client gets who sends this."""
    found: list[bytes] = []

    async def script(connect: Connect, _: Demo) -> None:
        peer = connect()
        await peer.send(wire)
        found.append(await peer.rest())

    serve(script, file)
    return found[0]


def test_an_application_is_told_what_was_asked() -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        peer = connect()
        await peer.send(b"GET /a%2Fb?c=%20d HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n")
        assert (await peer.until(b"OK")).startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n")
        await peer.send(LAST % b"http://host.example/v2/?n=1")
        await peer.rest()
        first, second = demo.scopes
        assert (first["path"], first["raw_path"]) == ("/a/b", b"/a%2Fb")
        assert first["query_string"] == b"c=%20d"
        assert (b"x-y", b"z") in first["headers"]
        assert (second["path"], second["query_string"]) == ("/v2/", b"n=1")

    serve(script)


@pytest.mark.parametrize("body", [b"", b"content", os.urandom(700_000)])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", [b"/read", b"/pour"])
def test_bodies_arrive_whole_and_connections_go_on(path: bytes, body: bytes, chunked: bool) -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        peer = connect()
        for _ in range(2):
            if chunked:
                size = b"%x\r\n" % len(body)
                wire = size + body + b"\r\n0\r\n\r\n" if body else b"0\r\n\r\n"
                await peer.send(PUT % path + b"Transfer-Encoding: chunked\r\n\r\n" + wire)
            else:
                await peer.send(PUT % path + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert b"OK" in await peer.until(b"\r\n\r\nOK")
        assert demo.bodies == [body, body]

    serve(script)


def test_requests_may_be_sent_ahead() -> None:
    put = PUT % b"/read" + b"Content-Length: 3\r\n\r\nabc"
    found = answer_to(put + GET % b"/pieces" + GET % b"/none" + LAST % b"/unchanged")
    assert found.count(b"HTTP/1.1 ") == 4
    assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" in found
    last = found.rpartition(b"HTTP/1.1 ")[2]
    assert last.startswith(b"304 Not Modified\r\n")
    assert b"content-length" not in last


def test_the_end_of_a_connection_is_heard_among_other_options() -> None:
    options = b"Connection: close\r\nConnection: keep-alive\r\n\r\n"
    found = answer_to(b"GET /ok HTTP/1.1\r\nHost: x\r\n" + options + LAST % b"/ok")
    assert found.count(b"HTTP/1.1 ") == 1


def test_lines_of_a_body_are_no_headers() -> None:
    body = b"\n" * 400
    put = PUT % b"/read" + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert answer_to(put).startswith(b"HTTP/1.1 200 ")


def test_requests_that_were_sent_ahead_wait_for_those_of_others() -> None:
    count = 500

    async def script(connect: Connect, demo: Demo) -> None:
        modest, greedy = connect(), connect()
        await modest.send(GET % b"/before")
        await modest.until(b"OK")

        async def first(scope: Any, receive: Any, send: Any) -> None:
            modest.sock.send(LAST % b"/modest")
            await demo.ok(scope, receive, send)

        demo.first = first  # type: ignore[attr-defined]
        await greedy.send(GET % b"/first" + GET % b"/greedy" * count + LAST % b"/greedy")
        await asyncio.gather(greedy.rest(), modest.rest())
        served = [scope["path"] for scope in demo.scopes]
        assert served.index("/modest") < count // 10

    serve(script)


def test_head_has_no_body() -> None:
    for path in (b"/ok", b"/pieces"):
        found = answer_to(b"HEAD %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        assert found.startswith(b"HTTP/1.1 200 OK\r\n")
        assert found.endswith(b"\r\n\r\n")
        assert found.count(b"\r\n\r\n") == 1


def test_a_client_of_http_1_0_gets_what_it_understands() -> None:
    found = answer_to(b"GET /pieces HTTP/1.0\r\n\r\n")
    assert b"chunked" not in found
    assert found.endswith(b"connection: close\r\n" + found.split(b"connection: close\r\n")[1])
    assert found.endswith(b"onetwo")


def test_a_file_is_sent_from_where_it_is_asked_for(tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    (tmp_path / "file").write_bytes(content)
    found = answer_to(GET % b"/sent" + LAST % b"/ok", tmp_path / "file")
    head, _, rest = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206 ")
    assert rest[: len(content) - 3] == content[3:]
    assert rest[len(content) - 3 :].startswith(b"HTTP/1.1 200 ")


def test_a_client_that_leaves_amid_a_file_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(9 << 20))

    async def script(connect: Connect, demo: Demo) -> None:
        for _ in range(3):
            peer = connect()
            await peer.send(GET % b"/sent")
            await peer.until(b"\r\n\r\n")
            peer.sock.close()
        other = connect()
        await other.send(LAST % b"/ok")
        assert b"OK" in await other.rest()

    serve(script, tmp_path / "file")


def test_the_wait_for_100_continue_ends_when_the_body_is_wanted() -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        peer = connect()
        expect = b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        for path in (b"/read", b"/pour"):
            await peer.send(PUT % path + expect)
            await peer.until(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.send(b"ab")
            await peer.until(b"OK")
        await peer.send(PUT % b"/ok" + expect)
        refused = await peer.rest()
        assert b"100 Continue" not in refused
        assert b"connection" not in demo.scopes[-1]["headers"]

    serve(script)


def test_an_unread_body_is_skipped_if_it_is_small() -> None:
    found = answer_to(PUT % b"/ok" + b"Content-Length: 4\r\n\r\nabcd" + LAST % b"/ok")
    assert found.count(b"HTTP/1.1 200 ") == 2
    big = PUT % b"/ok" + b"Content-Length: 900000\r\n\r\n" + bytes(30_000)
    assert answer_to(big).count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    "wire",
    [
        PUT % b"/read" + b"Content-Length: 9\r\n\r\nabc",
        PUT % b"/read" + b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
    ],
)
def test_a_body_that_is_cut_off_is_told_and_not_answered(wire: bytes) -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        peer = connect()
        await peer.send(wire)
        peer.sock.shutdown(1)
        assert await peer.rest() == b""
        assert (demo.gone, demo.bodies) == (1, [])

    serve(script)


@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
def test_a_body_that_never_comes_ends_with_its_connection(
    monkeypatch: pytest.MonkeyPatch, framing: bytes
) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.1)

    async def script(connect: Connect, demo: Demo) -> None:
        peer = connect()
        await peer.send(PUT % b"/read" + framing + b"\r\n\r\n")
        assert await peer.rest() == b""
        assert demo.gone == 1

    serve(script)


class Stuck:
    """A stream to a client that reads nothing."""

    async def send(self, *parts: bytes) -> None:
        await asyncio.get_running_loop().create_future()


def test_nothing_of_an_answer_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.1)
    head = h11.Request(method="GET", target="/", headers=[("Host", "x")])

    async def send_file(file: int, offset: int, count: int) -> None:
        raise AssertionError("the head comes first")

    async def answer(message: dict[str, Any]) -> None:
        answer = AsgiAnswer(Stuck(), head, True, send_file)  # type: ignore[arg-type]
        await answer.send({"type": "http.response.start", "status": 200})
        with pytest.raises(TimeoutError):
            await answer.send(message)

    for message in (
        {"type": "http.response.body", "body": b"x"},
        {"type": SENDFILE, "file": 0, "offset": 0, "count": 1},
    ):
        asyncio.run(answer(message))


def test_what_came_before_the_end_of_a_poured_body_counts() -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        peer = connect()
        await peer.send(PUT % b"/pour" + b"Content-Length: 9\r\n\r\nabc")
        await peer.send(b"de")
        peer.sock.shutdown(1)
        assert await peer.rest() == b""
        assert (demo.gone, demo.bodies) == (1, [b"abcde"])

    serve(script)


def test_a_poured_body_that_stops_or_finds_no_room_is_answered() -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        stalled = connect()
        await stalled.send(PUT % b"/pour" + b"Content-Length: 9\r\n\r\nabc")
        assert (await stalled.rest()).startswith(b"HTTP/1.1 408 ")
        demo.full = True
        refused = connect()
        await refused.send(PUT % b"/pour" + b"Content-Length: 3\r\n\r\nabc")
        await refused.until(b"HTTP/1.1 507 ")
        demo.full = False
        await refused.send(PUT % b"/pour" + b"Content-Length: 3\r\n\r\nxyz")
        await refused.until(b"OK")
        assert demo.bodies == [b"abc", b"", b"xyz"]

    serve(script)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (PUT % b"/read" + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (PUT % b"/read" + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (PUT % b"/read" + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (PUT % b"/read" + b"Content-Length: -1\r\n\r\n", 400),
        (PUT % b"/read" + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"PUT /read HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /" + b"a" * 150_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 300 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused(wire: bytes, status: int) -> None:
    found = answer_to(wire)
    assert found.startswith(b"HTTP/1.1 %d " % status)
    assert found.count(b"HTTP/1.1 ") == 1


def test_with_tls_bodies_pass_whole_and_ends_are_true() -> None:
    """Files go through the application; half a body is no body, also if nobody says so."""
    authority, demo = trustme.CA(), Demo()
    issued = authority.issue_cert("localhost")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    context = OpenSSLContext(TLS(chain, issued.private_key_pem.bytes()))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF

    def exchange(address: Any, wire: bytes, whole: bool = True) -> bytes:
        with socket.create_connection(address, 10) as sock:
            with client.wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(wire)
                if not whole:
                    return b""
                return b"".join(iter(lambda: tls.recv(65536), b""))

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address, body = listener.getsockname(), os.urandom(700_000)
        close, length = b"Connection: close\r\n", b"Content-Length: %d\r\n\r\n" % len(body)
        async with AsgiServer(demo, QUICK) as server:
            server.listen(listener, context)
            head = PUT % b"/read"
            answer = await asyncio.to_thread(exchange, address, head + close + length + body)
            assert answer.endswith(b"OK")
            answer = await asyncio.to_thread(exchange, address, b"GET /pieces HTTP/1.0\r\n\r\n")
            assert answer.endswith(b"onetwo")  # ended by close_notify
            await asyncio.to_thread(exchange, address, head + length + body[:-1], False)
            async with asyncio.timeout(5):
                while not demo.gone:
                    await asyncio.sleep(0.01)
        assert demo.bodies == [body]
        assert demo.scopes[0]["scheme"] == "https"
        assert demo.scopes[0]["extensions"] == {}

    asyncio.run(main())


def test_an_application_that_fails_leaves_no_half_answer() -> None:
    assert answer_to(GET % b"/nothing").startswith(b"HTTP/1.1 500 ")
    assert answer_to(GET % b"/split").startswith(b"HTTP/1.1 500 ")
    assert not answer_to(GET % b"/half").endswith(b"0\r\n\r\n")
    assert answer_to(GET % b"/short" + GET % b"/ok").count(b"HTTP/1.1 ") == 1
    assert b"half" not in answer_to(GET % b"/long")


def test_a_client_that_sends_nothing_more_is_left() -> None:
    async def script(connect: Connect, demo: Demo) -> None:
        slow = connect()
        await slow.send(b"GET / HTTP/1.1\r\nHo")
        assert await slow.rest() == b""
        assert demo.scopes == []

    serve(script)
