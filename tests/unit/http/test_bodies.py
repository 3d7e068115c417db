"""Bodies in chunks and of a known length, however they arrive."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import Sequence

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.http.bodies import BREATHS, BUFFER, PIECE, PIECES, Body, ChunkedBody, LengthBody, _Drain
from sampan.http.stream import SocketStream


class Arriving:
    """A stream whose bytes arrive in given pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.back = b""
        near, far = socket.socketpair()
        far.close()
        self.sock = near

    async def receive(self, size: int = 1 << 16) -> bytes:
        if not self.pieces:
            return b""
        first = self.pieces.pop(0)
        if len(first) > size:
            self.pieces.insert(0, first[size:])
        return first[:size]

    def push_back(self, data: bytes) -> None:
        self.back = data


def read(body: Body) -> bytes:
    async def all_of_it() -> bytes:
        found = b""
        while not body.complete:
            found += await body.read()
        return found

    return asyncio.run(all_of_it())


def chunked(*pieces: bytes) -> tuple[ChunkedBody, Arriving]:
    stream = Arriving(pieces)
    stream.sock.close()
    return ChunkedBody(stream), stream  # type: ignore[arg-type]


def test_chunks_become_one_piece_if_they_arrive_together() -> None:
    body, stream = chunked(b"3\r\none\r\n4;x=y\r\ntwo!\r\n0\r\nTrailer: x\r\n\r\nGET /")
    assert asyncio.run(body.read()) == b"onetwo!"
    assert (body.complete, stream.back) == (True, b"GET /")


def test_chunks_that_always_arrive_with_a_part_of_the_next_line_are_not_kept_without_end() -> None:
    count = 50
    first, other = b"f000\r\n" + bytes(0xF000) + b"\r\nf", b"000\r\n" + bytes(0xF000) + b"\r\nf"
    body, stream = chunked(first, *[other] * count)
    assert PIECE <= len(asyncio.run(body.read())) < 2 * PIECE
    assert len(stream.pieces) > count // 2


def test_of_tiny_chunks_others_need_not_wait_for_all() -> None:
    count = 4 * PIECES
    body, _ = chunked(b"1\r\na\r\n" * count + b"0\r\n\r\n")
    others = 0

    async def other() -> None:
        nonlocal others
        while not body.complete:
            others += 1
            await asyncio.sleep(0)

    async def both() -> int:
        beside = asyncio.create_task(other())
        found = 0
        while not body.complete:
            found += len(await body.read())
        await beside
        return found

    assert asyncio.run(both()) == count
    assert others >= 3


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
def test_chunks_may_be_cut_anywhere(contents: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in contents) + b"0\r\n\r\nnext"
    cuts = data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=12).map(sorted))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) if b > a]
    body, stream = chunked(*pieces)
    assert read(body) == b"".join(contents)
    assert stream.back + b"".join(stream.pieces) == b"next"


@given(st.binary(max_size=60))
def test_what_we_take_another_parser_takes_too(wire: bytes) -> None:
    body, _ = chunked(wire)
    try:
        found = read(body)
    except (InvalidArgument, ConnectionError):
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
    other.next_event()
    content = b""
    while isinstance(event := other.next_event(), h11.Data):
        content += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert content == found


@pytest.mark.parametrize(
    "wire",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1" * 16 + b"\r\n",
        b"1\r\nab\r\n",
        b"1\na\n",
        b"1;" + b"x" * 5000,
        b"0\r\n" + b"a: b\r\n" * 65,
        b"\r\n",
    ],
)
def test_malformed_chunks_are_refused(wire: bytes) -> None:
    body, _ = chunked(wire + b" " * 5000)
    with pytest.raises(InvalidArgument):
        read(body)


@pytest.mark.parametrize("wire", [b"", b"5", b"5\r\nab", b"2\r\nab", b"2\r\nab\r\n0\r\n"])
def test_chunks_that_are_cut_off_are_no_body(wire: bytes) -> None:
    body, _ = chunked(wire)
    with pytest.raises(ConnectionError):
        read(body)


def test_a_body_of_known_length_leaves_what_follows() -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            far.sendall(b"bodyGET /")
            stream = SocketStream(near)
            body = LengthBody(stream, 4)
            assert await body.read() == b"body"
            assert body.complete
            assert await body.read() == b""
            assert await stream.receive() == b"GET /"
            short = LengthBody(stream, 4)
            far.sendall(b"bo")
            far.shutdown(socket.SHUT_WR)
            assert await short.read() == b"bo"
            with pytest.raises(ConnectionError):
                await short.read()

    asyncio.run(main())


class Dripping:
    """A socket that has one byte, then none yet, and again one when somebody waits for it."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.send(b"x")
        self._dry = False

    def fileno(self) -> int:
        return self.near.fileno()

    def recv_into(self, buffer: memoryview) -> int:
        self._dry = not self._dry
        if not self._dry:
            raise BlockingIOError
        buffer[:1] = b"x"
        return 1

    def close(self) -> None:
        self.near.close()
        self.far.close()


def test_a_client_that_sends_byte_by_byte_has_no_thread_for_itself() -> None:
    sock = Dripping()
    received = bytearray()
    drain = _Drain(sock, received.extend)  # type: ignore[arg-type]
    for _ in range(2):
        received.clear()
        assert drain(1 << 20) == len(received) <= BREATHS + 1
    sock.close()


def test_a_client_that_stops_within_a_body_has_no_buffer() -> None:
    received = bytearray()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        tracemalloc.start()
        try:
            drain = _Drain(near, received.extend)
            far.send(b"abc")
            assert drain(BUFFER) == 3
            held, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (bytes(received), most > BUFFER, held < BUFFER // 4) == (b"abc", True, True)
