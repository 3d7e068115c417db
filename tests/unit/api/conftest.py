"""The API over real sockets, with an engine that only remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from sampan.api.app import App, standing_headers
from sampan.api.errors import refusal
from sampan.api.handler import Backend
from sampan.engine.containers.queries import Attachment
from sampan.engine.system import ENGINE_VERSION
from sampan.http.limits import Limits
from sampan.http.server import Server

LIMITS = Limits(idle_seconds=5.0, head_seconds=2.0, linger_seconds=0.2, grace_seconds=0.2)


class Reply:
    """One answer of the server, parsed."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status_line.split(" ")[1])
        self.reason = status_line.split(" ", 2)[2]
        self.headers = {
            name.lower(): value for name, _, value in (x.partition(": ") for x in lines)
        }
        chunked = self.headers.get("transfer-encoding") == "chunked"
        self.body = _unchunk(body) if chunked else body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


def _unchunk(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if not length:
            break
    return body


class Noun:
    """One part of the engine: methods are set by the test, calls are remembered."""

    def __init__(self, *plain: str) -> None:
        self.plain = frozenset(plain)  # methods that are no coroutines
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.incoming: Noun
        self.housekeeping: Noun

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers.get(name)
            if callable(answer):
                answer = answer(*args, **kwargs)
            if isinstance(answer, Exception):
                if name in self.plain:
                    raise answer
                return _fail(answer)
            if name in self.plain:
                return answer
            return _give(answer)

        return call


async def _give(answer: Any) -> Any:
    return answer


async def _fail(error: Exception) -> Any:
    raise error


class FakeBackend:
    """The engine behind the face."""

    def __init__(self) -> None:
        self.containers = Noun("waiter", "logs", "stats", "detached")
        self.execs = Noun("inspect", "detached")
        self.images, self.registries = Noun("load", "save", "pull", "push", "import_from"), Noun()
        self.events, self.system = Noun("subscribe"), Noun("version")
        self.networks, self.volumes, self.plugging = Noun(), Noun(), Noun()
        self.engine = Noun()
        self.builder, self.has_builder = Noun("build"), False
        self.builder.incoming = self.builder.housekeeping = self.builder


class Api:
    """A client of the face."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._open.append(ours)
        self._server.serve(theirs)
        return ours

    async def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        sock, loop = self.connect(), asyncio.get_running_loop()
        await loop.sock_sendall(sock, data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        got = b""
        async with asyncio.timeout(5):
            while piece := await loop.sock_recv(sock, 1 << 16):
                got += piece
        return got

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request and return the answer."""
        content = body if isinstance(body, bytes) else b""
        fields = {"Host": "docker", "Connection": "close"}
        if body is not None and not isinstance(body, bytes):
            content = json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
        if content:
            fields["Content-Length"] = str(len(content))
        fields.update(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return Reply(
            await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + content)
        )

    def close(self) -> None:
        for sock in self._open:
            sock.close()


def attachment(terminal: bool = False, backlog: bytes = b"") -> tuple[Attachment, socket.socket]:
    """Return streams for a client, and the process' end of them."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return Attachment(socket=theirs, terminal=terminal, backlog=backlog), ours


async def items(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


def run_with_api(test: Callable[[Api, FakeBackend], Awaitable[None]]) -> None:
    async def main() -> None:
        backend = FakeBackend()
        async with Server(
            App(cast(Backend, backend)),
            headers=standing_headers(ENGINE_VERSION),
            refuse=refusal,
            limits=LIMITS,
        ) as server:
            api = Api(server)
            try:
                await test(api, backend)
            finally:
                api.close()

    asyncio.run(main())


@pytest.fixture
def with_api() -> Callable[[Callable[[Api, FakeBackend], Awaitable[None]]], None]:
    return run_with_api


@pytest.fixture
def make_attachment() -> Callable[..., tuple[Attachment, socket.socket]]:
    return attachment


@pytest.fixture
def make_items() -> Callable[..., AsyncIterator[Any]]:
    return items
