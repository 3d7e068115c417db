"""gRPC calls that are made of us, by a client of h2's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, TrailersReceived
from hypothesis import given
from hypothesis import strategies as st

from sampan.client.calls import NOT_FOUND, UNKNOWN, Call, Calls
from sampan.errors import InvalidArgument, NotFound


class Owner:
    """Notes what it is told, and answers with what `answers` has."""

    def __init__(self) -> None:
        self.calls = Calls(self.begin, self.message, self.end, self.close)
        self.told: list[str] = []
        self.answer = b""
        self.last: Call | None = None

    def begin(self, call: Call) -> None:
        self.last = call
        self.told.append(f"begin {call.method}")

    def message(self, call: Call, message: bytes) -> None:
        self.told.append(f"message {len(message)}")
        if self.answer:
            call.send(self.answer)
            call.finish()

    def end(self, call: Call) -> None:
        self.told.append("end")

    def close(self, call: Call) -> None:
        self.told.append("close")


class Peer:
    """The other side."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.data, self.trailers = b"", dict[str, str]()

    def begin(self) -> None:
        headers = [(":method", "POST"), (":path", "/a/B"), (":scheme", "http"),
                   (":authority", "x")]  # fmt: skip
        self.h2.send_headers(1, headers)

    def ask(self, *data: bytes, end: bool = True) -> None:
        self.begin()
        for piece in data:
            self.h2.send_data(1, piece)
        if end:
            self.h2.end_stream(1)
        self.exchange()

    def exchange(self) -> None:
        while (out := self.h2.data_to_send()) or self.owner.calls.h2._data_to_send:
            if out:
                assert self.owner.calls.receive(out)
            back = self.owner.calls.h2.data_to_send()
            for event in self.h2.receive_data(back) if back else ():
                if isinstance(event, DataReceived):
                    self.data += event.data
                    self.h2.acknowledge_received_data(len(event.data), 1)
                elif isinstance(event, TrailersReceived):
                    self.trailers = {str(k): str(v) for k, v in event.headers}


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize("size", [1, 70_000, 500_000])
def test_an_answer_of_any_size_arrives(size: int) -> None:
    owner = Owner()
    owner.answer = bytes(size)
    peer = Peer(owner)
    peer.ask(framed(b"question"))
    assert peer.data == framed(bytes(size))
    assert peer.trailers["grpc-status"] == "0"
    assert owner.told[:2] == ["begin /a/B", "message 8"]
    assert "close" in owner.told


def test_messages_may_come_in_pieces() -> None:
    owner = Owner()
    whole = framed(b"abc") + framed(b"")
    Peer(owner).ask(whole[:2], whole[2:7], whole[7:])
    assert owner.told == ["begin /a/B", "message 3", "message 0", "end"]


def test_a_refusal_is_a_status_with_a_sentence() -> None:
    owner = Owner()
    peer = Peer(owner)
    peer.ask(framed(b"x"))
    assert owner.last
    owner.last.finish(NOT_FOUND, "no 100% \u00e9\r\nx")
    peer.exchange()
    assert peer.trailers["grpc-status"] == "5"
    assert peer.trailers["grpc-message"] == "no 100%25 %C3%A9%0D%0Ax"


def test_a_call_that_is_given_up_is_forgotten() -> None:
    owner = Owner()
    peer = Peer(owner)
    peer.ask(framed(b"x"), end=False)
    peer.h2.reset_stream(1)
    peer.exchange()
    assert owner.told[-1] == "close"


@pytest.mark.parametrize("data", [b"\1\0\0\0\1x", b"\0\xff\xff\xff\xff"])
def test_compressed_and_endless_messages_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="compressed, or too long"):
        Peer(Owner()).ask(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    calls = Owner().calls
    for start in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        try:
            calls.receive(start + data)
        except InvalidArgument:
            pass


def test_a_stream_is_made_as_fast_as_it_is_taken() -> None:
    made: list[int] = []

    def messages() -> Iterator[bytes]:
        for number in range(40):
            made.append(number)
            yield bytes([number]) * 50_000

    class Sender(Owner):
        def begin(self, call: Call) -> None:
            call.stream(messages())

    owner = Sender()
    peer = Peer(owner)
    peer.exchange()
    peer.begin()
    assert owner.calls.receive(peer.h2.data_to_send())
    assert 1 <= len(made) <= 3  # of 2 MB the window of 64 KiB takes no more
    peer.exchange()
    assert len(made) == 40
    assert peer.trailers["grpc-status"] == "0"
    assert peer.data == b"".join(framed(bytes([number]) * 50_000) for number in range(40))


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("gone"), NOT_FOUND), (OSError("gone"), UNKNOWN)]
)
def test_a_stream_that_fails_says_why(error: Exception, status: int) -> None:
    closed: list[str] = []

    def messages() -> Iterator[bytes]:
        try:
            yield b"a"
            raise error
        finally:
            closed.append("closed")

    class Sender(Owner):
        def begin(self, call: Call) -> None:
            call.stream(messages())

    peer = Peer(Sender())
    peer.ask()
    assert peer.data == framed(b"a")
    assert (peer.trailers["grpc-status"], peer.trailers["grpc-message"]) == (str(status), "gone")
    assert closed == ["closed"]


@pytest.mark.parametrize("together", [True, False])
def test_a_stream_that_nobody_wants_is_let_go(together: bool) -> None:
    closed: list[str] = []

    def messages() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 50_000
        finally:
            closed.append("closed")

    class Sender(Owner):
        def begin(self, call: Call) -> None:
            call.stream(messages())

    owner = Sender()
    peer = Peer(owner)
    peer.exchange()
    peer.begin()
    if not together:
        assert owner.calls.receive(peer.h2.data_to_send())
    peer.h2.reset_stream(1)
    assert owner.calls.receive(peer.h2.data_to_send())
    assert closed == ([] if together else ["closed"])  # one that has not begun has nothing open
    assert owner.told == ["close"]
