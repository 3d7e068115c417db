"""The registry behind its own server: clients that are slow, leave, or are many."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

from sampan.registry.application import Application
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from sampan.registry.serving.servers import make_server
from tests.own_registry import sha
from tests.session import PATIENCE


class Line:
    """One connection to the registry."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, method: str, target: str, body: bytes = b"", length: int = -1) -> None:
        """Send a request; with a length of its own, only a part of the body."""
        count = len(body) if length < 0 else length
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {count}\r\n\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = [line.partition(": ") for line in head[1:] if line]
            headers = {name.lower(): value for name, _, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, dict[str, str]]:
        await self.send(method, target, body)
        status, headers, _ = await self.answer()
        return status, headers

    async def begin(self) -> str:
        status, headers = await self.ask("POST", "/v2/a/blobs/uploads/")
        assert status == 202
        return headers["location"].removeprefix("http://x")


def serving(
    story: Callable[[Callable[[], Awaitable[Line]]], Awaitable[None]],
    idle_seconds: float = PATIENCE,
) -> None:
    """Run a story against a registry that waits so long for slow clients."""

    async def main(registry: Registry) -> None:
        application = Application(registry, Service(deletes=True, idle_seconds=idle_seconds))
        listener = socket.create_server(("127.0.0.1", 0))
        lines: list[Line] = []

        async def connect() -> Line:
            lines.append(Line(*await asyncio.open_connection(*listener.getsockname())))
            return lines[-1]

        async with make_server(application, listener, http2=False):
            await story(connect)
            for line in lines:
                line.writer.close()
        application.close()
        listener.close()

    with Registry.in_memory() as registry:
        asyncio.run(main(registry))


def test_a_client_that_stops_is_told_and_can_go_on() -> None:
    async def story(connect: Callable[[], Awaitable[Line]]) -> None:
        slow = await connect()
        place = await slow.begin()
        await slow.send("PATCH", place, b"half", 8)
        status, _, body = await slow.answer()
        assert (status, b"sent nothing for too long" in body) == (408, True)
        other = await connect()
        status, headers = await other.ask("GET", place)
        assert (status, headers["range"]) == (204, "0-3")
        content = b"half" + os.urandom(1 << 20)
        assert (await other.ask("PUT", f"{place}?digest={sha(content)}", content[4:]))[0] == 201
        await other.send("GET", f"/v2/a/blobs/{sha(content)}")
        assert (await other.answer())[2] == content

    serving(story, idle_seconds=1.0)


def test_what_came_before_a_client_left_is_kept_and_is_no_blob() -> None:
    async def story(connect: Callable[[], Awaitable[Line]]) -> None:
        place = await (await connect()).begin()
        content = os.urandom(700_000)
        gone = await connect()
        await gone.send("PUT", f"{place}?digest={sha(content)}", content[:-1], len(content))
        gone.writer.close()
        other = await connect()
        async with asyncio.timeout(20):
            while (await other.ask("GET", place))[1].get("range") != f"0-{len(content) - 2}":
                await asyncio.sleep(0.01)
        assert (await other.ask("GET", f"/v2/a/blobs/{sha(content)}"))[0] == 404
        answer = (409, {})
        async with asyncio.timeout(20):
            while answer[0] == 409:  # the other request is just ending
                answer = await other.ask("PUT", f"{place}?digest={sha(content)}", content[-1:])
        assert answer[0] == 201

    serving(story)


def test_slow_clients_keep_nobody_waiting() -> None:
    async def story(connect: Callable[[], Awaitable[Line]]) -> None:
        slow = [await connect() for _ in range(50)]  # more than there are threads
        for line in slow:
            await line.send("PATCH", await line.begin(), b"x", 1000)
        content = os.urandom(300_000)
        line = await connect()
        place = await line.begin()
        assert (await line.ask("PUT", f"{place}?digest={sha(content)}", content))[0] == 201
        assert {(await line.answer())[0] for line in slow} == {408}

    serving(story, idle_seconds=1.0)


def test_a_manifest_of_four_megabytes_is_taken_and_a_larger_one_is_not() -> None:
    async def story(connect: Callable[[], Awaitable[Line]]) -> None:
        line = await connect()
        frame = b'{"schemaVersion": 2, "manifests": [], "annotations": {"x": "%s"}}'
        fits = frame % (b"y" * ((4 << 20) - len(frame) + 2))
        assert len(fits) == 4 << 20
        for body, wanted in ((fits, 201), (fits + b" ", 413)):
            kind = "application/vnd.oci.image.index.v1+json"
            head = "PUT /v2/a/manifests/big HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\n"
            head += "Content-Length: {}\r\n\r\n"
            line.writer.write(head.format(kind, len(body)).encode() + body)
            assert (await line.answer())[0] == wanted
            line = await connect()
        await line.send("GET", "/v2/a/manifests/big")
        assert (await line.answer())[2] == fits

    serving(story)
