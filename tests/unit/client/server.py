"""A server that gives prepared answers, and keeps what it was sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Server:
    """Answers each request with the next of `answers`, on as many connections as it takes.

    An answer that ends with `close=True` closes the connection. `requests` has the bytes of every
    request up to the end of its declared body.
    """

    def __init__(self, path: Path, answers: Sequence[bytes], closing: bool) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = list(answers)
        self._closing = closing
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._answers.clear()
        with socket.socket(socket.AF_UNIX) as waker:
            waker.connect(str(self.path))
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while self._answers:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection:
                while self._answers:
                    request = _request(connection)
                    if not request:
                        break
                    self.requests.append(request)
                    connection.sendall(self._answers.pop(0))
                    if self._closing:
                        break


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head = data.partition(b"\r\n\r\n")[0].lower()
    if b"transfer-encoding: chunked" in head:
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
        return data
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    while len(data) < len(head) + 4 + length:
        data += connection.recv(65536)
    return data


@contextmanager
def serving(path: Path, *answers: bytes, closing: bool = False) -> Iterator[Server]:
    """Run a server for the block."""
    server = Server(path / "engine.sock", answers, closing)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Format an answer with a length."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body
