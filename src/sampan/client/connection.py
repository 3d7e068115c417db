"""HTTP/1.1 for one client connection: what the Docker API needs, and nothing more.

An own reader because importing h11 costs 26 ms of CPU at every start of the command line, as much
as the rest of it; the daemon's side stays on h11. Bodies are bounded, chunked or end with the
connection; a hijacked connection hands out its socket with the bytes already read.
"""

from __future__ import annotations

from sampan.errors import Internal, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

HEAD_BYTES = 64 << 10  # more than any Docker server sends
READ_BYTES = 64 << 10
BODY_BYTES = 256 << 20  # of an answer that is read as a whole
LINE_BYTES = 16 << 20  # of one message of a stream
TRAILERS = 100  # headers after a body
INTERIM_ANSWERS = 100  # "100 Continue" and the like before an answer
LENGTH_DIGITS = 18  # of a Content-Length or a chunk's size


class Connection:
    """A socket with the bytes that were read from it and not used yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def close(self) -> None:
        self.sock.close()

    def close_write(self) -> None:
        """Tell the daemon that no more comes; what it sends can still be read."""
        import _socket as socket  # C's own, without the slow import of its wrapper

        try:
            # The plain method: SSLSocket's own would forget the keys that reading needs.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:
            pass  # it has closed already

    def is_closed(self) -> bool:
        """The daemon has ended the connection, or sent what nobody asked for."""
        import select

        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(self._buffer or poll.poll(0))

    def has_buffered(self) -> bool:
        """There are bytes to read that poll(2) does not know of."""
        pending = getattr(self.sock, "pending", None)
        return bool(self._buffer or (pending and pending()))

    def read_now(self) -> bytes | None:
        """Return what is there on a non-blocking connection: None nothing yet, empty at the end."""
        try:
            return self.read_some()
        except BlockingIOError:
            return None
        except OSError as error:
            if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                return None
            if type(error).__name__ in ("SSLZeroReturnError", "SSLEOFError"):
                return b""
            raise

    def send_now(self, data: bytes) -> int:
        """Send what a non-blocking connection takes and return how much that was."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                return 0
            raise

    def send(self, head: bytes, body: bytes | Iterable[bytes] | None) -> None:
        """Send a request; an iterable goes in chunks. Raises OSError."""
        if body is None or isinstance(body, (bytes, bytearray)):
            self.sock.sendall(head + body if body else head)
            return
        self.sock.sendall(head)
        for piece in body:
            if piece:
                self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.sock.sendall(b"0\r\n\r\n")

    def receive_head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers (lower-case names) of the next final answer."""
        for _ in range(INTERIM_ANSWERS):
            end = self._buffer.find(b"\r\n\r\n")
            while end < 0:
                if len(self._buffer) > HEAD_BYTES:
                    raise Internal("the server's answer has too long a head")
                if not self._fill():
                    raise Unavailable("error during connect: EOF")
                end = self._buffer.find(b"\r\n\r\n")
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            status, headers = _parse_head(head)
            if status >= 200 or status == 101:
                return status, headers
        raise Internal("the server does not come to an answer")

    def _fill(self) -> bool:
        data = self.sock.recv(READ_BYTES)
        self._buffer += data
        return bool(data)

    def read_some(self, limit: int = READ_BYTES) -> bytes:
        """Return up to `limit` bytes as soon as there are any; nothing at the end."""
        if not self._buffer:
            return self.sock.recv(limit)
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return data

    def read_exactly(self, count: int) -> bytes:
        """Return `count` bytes. Raises Unavailable if the connection ends before."""
        while len(self._buffer) < count:
            if not self._fill():
                raise Unavailable("unexpected EOF")
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_line(self) -> bytes:
        """Return the next line without its CRLF."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > HEAD_BYTES or not self._fill():
                raise Unavailable("unexpected EOF")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    status = parts[1] if len(parts) > 1 else ""
    if not parts[0].startswith("HTTP/1.") or len(status) != 3 or status.strip("0123456789"):
        raise Internal("the server does not speak HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(status), headers


class Response:
    """An answer whose body is read once: whole, or piece by piece as it arrives."""

    def __init__(
        self, connection: Connection, status: int, headers: dict[str, str], bodyless: bool
    ) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self.finished = False
        length = headers.get("content-length", "")
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left: int | None = None  # None: until the connection ends
        if bodyless or status in (101, 204, 304):
            self._left, self._chunked = 0, False
        elif not self._chunked and length:
            if not (length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS):
                raise Internal("the server sent a wrong Content-Length")
            self._left = int(length)
        self.reusable = (self._chunked or self._left is not None) and (
            headers.get("connection", "").lower() != "close" and status != 101
        )

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""
        if self._chunked:
            yield from self._chunks()
        elif self._left is None:
            while piece := self.connection.read_some():
                yield piece
        else:
            while self._left:
                piece = self.connection.read_some(min(self._left, READ_BYTES))
                if not piece:
                    raise Unavailable("unexpected EOF")
                self._left -= len(piece)
                yield piece
        self.finished = True

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = self.connection.read_line().split(b";", 1)[0].strip()
            if size.strip(b"0123456789abcdefABCDEF") or not 0 < len(size) <= LENGTH_DIGITS:
                raise Internal("the server sent a wrong chunk")
            left = int(size, 16)
            if left == 0:
                for _ in range(TRAILERS):
                    if not self.connection.read_line():
                        return
                raise Internal("the server sent too many trailers")
            while left:
                piece = self.connection.read_some(min(left, READ_BYTES))
                if not piece:
                    raise Unavailable("unexpected EOF")
                left -= len(piece)
                yield piece
            self.connection.read_exactly(2)

    def read(self, limit: int = BODY_BYTES) -> bytes:
        """Return the rest of the body. Raises Internal if it is longer than `limit` bytes."""
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > limit:
                raise Internal(f"the server's answer is longer than {limit} bytes")
        return bytes(data)

    def lines(self, limit: int = LINE_BYTES) -> Iterator[bytes]:
        """Yield the body's lines, without their ends, as they arrive.

        Raises Internal for a line of more than `limit` bytes.
        """
        rest = bytearray()
        for piece in self.pieces():
            first, newline, others = piece.partition(b"\n")
            rest += first
            if len(rest) > limit:
                raise Internal(f"the server sent a message of more than {limit} bytes")
            if newline:
                yield bytes(rest)
                *lines, last = others.split(b"\n")
                yield from lines
                rest = bytearray(last)
        if rest:
            yield bytes(rest)

    def close(self) -> None:
        self.connection.close()
