"""gRPC calls that the other side of a connection makes: frames, messages, answers.

HTTP/2 is h2's; this knows no socket. A call is answered by messages and a status; whoever handles
it is told of each message that comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError

from sampan.errors import InvalidArgument, NotFound, SampanError

OK: Final = 0
UNKNOWN: Final = 2
NOT_FOUND: Final = 5
UNIMPLEMENTED: Final = 12
_LARGEST: Final = 4 << 20  # bytes of a message, as gRPC's own bound
_HEAD: Final = 5  # bytes before each message: whether it is compressed, and its length


class Call:
    """One call of the other side."""

    def __init__(self, calls: Calls, number: int, headers: dict[str, str]) -> None:
        self._calls, self.number, self.headers = calls, number, headers
        self.method = headers.get(":path", "")
        self._received, self.waiting = bytearray(), bytearray()
        self._begun = False
        self._end: list[tuple[str, str]] | None = None
        self._source: Iterator[bytes] | None = None
        self.handler: Any = None  # what the owner of the call keeps with it

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes and yield the messages that are complete; InvalidArgument."""
        self._received += data
        while len(self._received) >= _HEAD:
            size = int.from_bytes(self._received[1:_HEAD], "big")
            if self._received[0] or size > _LARGEST:
                raise InvalidArgument("a message is compressed, or too long")
            if len(self._received) < _HEAD + size:
                return
            message = bytes(self._received[_HEAD : _HEAD + size])
            del self._received[: _HEAD + size]
            yield message

    def send(self, message: bytes) -> None:
        """Answer with a message; the status comes with `finish`."""
        self.waiting += b"\0" + len(message).to_bytes(4, "big") + message
        self.flush()

    def stream(self, messages: Iterator[bytes]) -> None:
        """Answer with messages, each made when there is room for it, and end the call."""
        self._source = messages
        self.flush()

    def finish(self, status: int = OK, sentence: str = "") -> None:
        """End the call."""
        self._source = None
        self._end = _trailers(status, sentence)
        self.flush()

    def flush(self) -> None:
        """Give h2 what the other side has room for."""
        try:
            self._flush()
        except StreamClosedError:  # it was broken off by what has come with this, or before
            self._calls.forget(self)

    def _flush(self) -> None:
        h2 = self._calls.h2
        if not self._begun:
            self._begun = True
            h2.send_headers(self.number, [(":status", "200"), ("content-type", "application/grpc")])
        while self.waiting or self._fill():
            room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
            if room <= 0:
                return
            h2.send_data(self.number, bytes(self.waiting[:room]))
            del self.waiting[:room]
        if self._end is not None:
            h2.send_headers(self.number, self._end, end_stream=True)
            self._calls.forget(self)

    def _fill(self) -> bool:
        """Have the next message of a stream wait, if there is one."""
        if self._source is None:
            return False
        status, sentence = OK, ""
        try:
            message = next(self._source, None)
        except NotFound as error:
            message, status, sentence = None, NOT_FOUND, str(error)
        except (OSError, SampanError) as error:
            message, status, sentence = None, UNKNOWN, str(error)
        if message is None:
            self._source, self._end = None, _trailers(status, sentence)
            return False
        self.waiting += b"\0" + len(message).to_bytes(4, "big") + message
        return True

    def abandon(self) -> None:
        """Let go of what a stream is made of."""
        self._source = None  # a generator closes what it has open


class Calls:
    """The calls of one connection. `begin`, `message`, `close` and `end` tell their owner of them.

    `end`: the other side says no more, `close`: the call is over.
    """

    def __init__(
        self,
        begin: Callable[[Call], None],
        message: Callable[[Call, bytes], None],
        end: Callable[[Call], None],
        close: Callable[[Call], None],
    ) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._begin, self._message, self._end, self._close = begin, message, end, close
        self._open: dict[int, Call] = {}
        self.h2.initiate_connection()

    def receive(self, data: bytes) -> bool:
        """Take bytes; False if the connection is over. InvalidArgument for what is no gRPC."""
        try:
            events = self.h2.receive_data(data)
            return all(self._happened(event) for event in events)
        except ProtocolError as error:
            raise InvalidArgument(f"the daemon does not speak gRPC: {error}") from error

    def _happened(self, event: Event) -> bool:
        if isinstance(event, ConnectionTerminated):
            return False
        if isinstance(event, RequestReceived):
            call = Call(self, event.stream_id, _plain(event.headers))
            self._open[call.number] = call
            self._begin(call)
        elif number := getattr(event, "stream_id", None):
            self._told(number, event)
        else:  # there may be more room
            for call in list(self._open.values()):
                call.flush()
        return True

    def _told(self, number: int, event: Event) -> None:
        if isinstance(event, DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, number)
        call = self._open.get(number)
        if call is None:
            return
        if isinstance(event, DataReceived):
            for message in call.feed(event.data):
                self._message(call, message)
        elif isinstance(event, WindowUpdated):
            call.flush()
        elif isinstance(event, StreamEnded):
            self._end(call)
        elif isinstance(event, StreamReset):
            self.forget(call)

    def forget(self, call: Call) -> None:
        """Know a call no more."""
        if self._open.pop(call.number, None):
            call.abandon()
            self._close(call)

    def close(self) -> None:
        """Forget all calls."""
        for call in list(self._open.values()):
            self.forget(call)


def _trailers(status: int, sentence: str) -> list[tuple[str, str]]:
    return [("grpc-status", str(status)), ("grpc-message", quote(sentence, safe=" "))]


def _plain(headers: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}
