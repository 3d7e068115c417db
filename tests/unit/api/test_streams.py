"""Attach, exec, logs, stats, wait and events: what goes on as long as the client listens."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from sampan.errors import CommandNotFound, Conflict, NotFound
from sampan.spec.docker.containers import WaitResponse
from sampan.spec.docker.events import Actor, EventMessage

With = Callable[[Callable[[Any, Any], Any]], None]
Attachments = Callable[..., tuple[Any, socket.socket]]
Items = Callable[..., Any]
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(data)) + data


def post(path: str, headers: bytes = b"", body: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    kind = b"Content-Type: application/json\r\n" if body else b""
    return (
        b"POST "
        + path.encode()
        + b" HTTP/1.1\r\nHost: x\r\n"
        + headers
        + kind
        + length
        + b"\r\n"
        + body
    )


async def until(sock: socket.socket, mark: bytes) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        while mark not in data:
            piece = await asyncio.get_running_loop().sock_recv(sock, 65536)
            assert piece, data
            data += piece
    return data


# --- attach ------------------------------------------------------------------------------------


def test_attach_upgrades_and_carries_both_ways(
    with_api: With, make_attachment: Attachments
) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment()
        backend.containers.answers["attach"] = attachment
        loop, sock = asyncio.get_running_loop(), api.connect()
        with process:
            head = post("/v1.42/containers/web/attach?stream=1&stdin=1&stdout=1", UPGRADE)
            await loop.sock_sendall(sock, head + b"typed early")
            answer = await until(sock, b"\r\n\r\n")
            assert answer == (
                b"HTTP/1.1 101 UPGRADED\r\n"
                b"Content-Type: application/vnd.docker.multiplexed-stream\r\n"
                b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
            assert await until(process, b"early") == b"typed early"
            await loop.sock_sendall(process, frame(1, b"hello"))
            assert await until(sock, b"hello") == frame(1, b"hello")
            sock.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(process, 10) == b""
            await loop.sock_sendall(process, frame(1, b"after"))
            process.close()
            assert (await until(sock, b"after")) == frame(1, b"after")
            assert await loop.sock_recv(sock, 10) == b""

    with_api(client)


@pytest.mark.parametrize(
    ("version", "terminal", "kind"),
    [
        ("1.42", False, b"multiplexed-stream"),
        ("1.42", True, b"raw-stream"),
        ("1.41", False, b"raw-stream"),
    ],
)
def test_the_type_of_the_stream_depends_on_version_and_terminal(
    with_api: With, make_attachment: Attachments, version: str, terminal: bool, kind: bytes
) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment(terminal)
        process.close()
        backend.containers.answers["attach"] = attachment
        answer = await api.raw(post(f"/v{version}/containers/web/attach?stream=1", UPGRADE))
        assert b"Content-Type: application/vnd.docker." + kind in answer

    with_api(client)


def test_attach_without_upgrade_answers_200(with_api: With, make_attachment: Attachments) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment(backlog=frame(1, b"log"))
        process.close()
        backend.containers.answers["attach"] = attachment
        answer = await api.raw(post("/containers/web/attach?stream=1&logs=1"))
        assert answer == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            + frame(1, b"log")
        )

    with_api(client)


def test_a_body_of_attach_does_not_become_stdin(
    with_api: With, make_attachment: Attachments
) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment()
        backend.containers.answers["attach"] = attachment
        loop, sock = asyncio.get_running_loop(), api.connect()
        with process:
            request = post("/containers/web/attach?stream=1&stdin=1", UPGRADE, b'{"a": 1}')
            await loop.sock_sendall(sock, request + b"stdin")
            assert await until(process, b"stdin") == b"stdin"

    with_api(client)


def test_an_error_before_the_takeover_is_an_ordinary_answer(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["attach"] = NotFound("No such container: web")
        reply = await api.ask("POST", "/containers/web/attach?stream=1", b"", {"Upgrade": "tcp"})
        assert (reply.status, reply.message) == (404, "No such container: web")

    with_api(client)


def test_detach_keys_end_the_attach_and_leave_the_process(
    with_api: With, make_attachment: Attachments
) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment(True)
        backend.containers.answers["attach"] = attachment
        with process:
            path = "/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x"
            await api.raw(post(path, UPGRADE) + b"ls\n\x01x")
            assert await until(process, b"\n") == b"ls\n"
        assert ("detached", ("web",), {}) in backend.containers.calls

    with_api(client)


def test_a_client_that_vanishes_ends_the_attach_even_without_stdin(
    with_api: With, make_attachment: Attachments
) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment()
        backend.containers.answers["attach"] = attachment
        sock = api.connect()
        with process:
            await asyncio.get_running_loop().sock_sendall(
                sock, post("/containers/web/attach?stream=1&stdout=1", UPGRADE)
            )
            await until(sock, b"\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            assert await asyncio.get_running_loop().sock_recv(process, 10) == b""
            sock.close()
            async with asyncio.timeout(5):
                while attachment.socket.fileno() >= 0:
                    await asyncio.sleep(0.01)

    with_api(client)


def test_a_flood_passes_unchanged(with_api: With, make_attachment: Attachments) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment(True)
        backend.containers.answers["attach"] = attachment
        payload = bytes(range(256)) * 16384

        async def write() -> None:
            await asyncio.get_running_loop().sock_sendall(process, payload)
            process.close()

        writing = asyncio.ensure_future(write())
        answer = await api.raw(post("/containers/web/attach?stream=1&stdout=1", UPGRADE))
        await writing
        assert answer.partition(b"\r\n\r\n")[2] == payload

    with_api(client)


# --- exec --------------------------------------------------------------------------------------


def exec_backend(backend: Any, attachment: Any) -> None:
    backend.execs.answers["inspect"] = SimpleNamespace(detach_keys="")
    backend.execs.answers["connect"] = attachment


def test_exec_start_upgrades_like_attach(with_api: With, make_attachment: Attachments) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment(backlog=b"")
        exec_backend(backend, attachment)
        process.setblocking(True)
        process.sendall(frame(1, b"out"))
        process.close()
        answer = await api.raw(post("/v1.44/exec/e/start", UPGRADE, b'{"Tty": false}'))
        assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        assert answer.endswith(b"\r\n\r\n" + frame(1, b"out"))

    with_api(client)


def test_a_detached_exec_answers_when_it_has_started(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("POST", "/exec/e/start", {"Detach": True})
        assert (reply.status, reply.body) == (200, b"")
        assert [call[0] for call in backend.execs.calls] == ["start"]

    with_api(client)


def test_a_program_that_is_not_there_is_told_inside_the_stream(
    with_api: With, make_attachment: Attachments
) -> None:
    async def client(api: Any, backend: Any) -> None:
        attachment, process = make_attachment()
        exec_backend(backend, attachment)
        backend.execs.answers["start"] = CommandNotFound("no such program")
        with process:
            answer = await api.raw(post("/exec/e/start", UPGRADE, b"{}"))
        assert answer.endswith(frame(1, b"no such program\r\n"))

    with_api(client)


def test_an_exec_that_runs_already_is_a_conflict(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        exec_backend(backend, Conflict("exec process is already running: e"))
        reply = await api.ask("POST", "/exec/e/start", {}, {"Upgrade": "tcp"})
        assert (reply.status, reply.message) == (409, "exec process is already running: e")

    with_api(client)


# --- logs, stats, wait, events -----------------------------------------------------------------


def test_the_head_of_logs_and_events_and_wait_comes_before_any_data(with_api: With) -> None:
    async def silence() -> Any:
        await asyncio.get_running_loop().create_future()
        yield b""

    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["logs"] = lambda *_: (False, silence())
        backend.events.answers["subscribe"] = lambda **_: silence()
        backend.containers.answers["waiter"] = lambda *_: SimpleNamespace(
            wait=lambda: asyncio.get_running_loop().create_future()
        )
        for request, kind in (
            (b"GET /containers/x/logs?stdout=1&follow=1", b"multiplexed-stream"),
            (b"GET /events", b"application/json"),
            (b"POST /containers/x/wait", b"application/json"),
        ):
            sock = api.connect()
            await asyncio.get_running_loop().sock_sendall(
                sock, request + b" HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            head = await until(sock, b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert kind in head
            assert b"Transfer-Encoding: chunked" in head

    with_api(client)


def test_wait_answers_the_exit_code(with_api: With) -> None:
    async def ended() -> WaitResponse:
        return WaitResponse(status_code=3)

    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["waiter"] = lambda *_: SimpleNamespace(wait=ended)
        for version in ("1.24", "1.51"):
            path = f"/v{version}/containers/x/wait?condition=next-exit"
            reply = await api.ask("POST", path)
            assert reply.json["StatusCode"] == 3
        assert [call[1] for call in backend.containers.calls] == [("x", ""), ("x", "next-exit")]

    with_api(client)


def test_logs_pass_their_parameters_on(with_api: With, make_items: Items) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["logs"] = lambda *_: (True, make_items(b"a\n", b"b\n"))
        query = "stdout=1&stderr=0&since=1.5&until=0&tail=7&timestamps=true&details=1"
        reply = await api.ask("GET", f"/containers/x/logs?{query}")
        assert reply.body == b"a\nb\n"
        assert reply.headers["content-type"] == "application/vnd.docker.raw-stream"
        wanted = backend.containers.calls[0][1][1]
        assert (wanted.stdout, wanted.stderr, wanted.tail) == (True, False, 7)
        assert (wanted.since, wanted.until) == (1_500_000_000, 0)
        assert wanted.timestamps
        assert wanted.details

    with_api(client)


@pytest.mark.parametrize(("tail", "lines"), [("all", None), ("", None), ("-1", None), ("0", 0)])
def test_a_tail_that_is_no_number_means_everything(
    with_api: With, make_items: Items, tail: str, lines: int | None
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["logs"] = lambda *_: (True, make_items())
        await api.ask("GET", f"/containers/x/logs?stdout=1&tail={tail}")
        assert backend.containers.calls[0][1][1].tail == lines

    with_api(client)


def test_stats_once_is_one_document_and_stats_streamed_are_lines(
    with_api: With, make_items: Items
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["stats"] = lambda *_, **__: make_items({"n": 1}, {"n": 2})
        once = await api.ask("GET", "/containers/x/stats?stream=false")
        assert once.json == {"n": 1}
        assert "content-length" in once.headers
        stream = await api.ask("GET", "/containers/x/stats")
        assert stream.body == b'{"n":1}\n{"n":2}\n'

    with_api(client)


def test_events_carry_the_old_fields_for_containers_and_images(
    with_api: With, make_items: Items
) -> None:
    def event(kind: str, action: str) -> EventMessage:
        actor = Actor(id="x", attributes={"image": "busybox"})
        return EventMessage(type=kind, action=action, actor=actor, time=1, time_nano=1000000001)

    async def client(api: Any, backend: Any) -> None:
        backend.events.answers["subscribe"] = lambda **_: make_items(
            event("container", "die"), event("network", "connect"), event("image", "create")
        )
        lines = (await api.ask("GET", "/v1.46/events")).body.splitlines()
        died, connected, created = (json.loads(line) for line in lines)
        assert (died["status"], died["id"], died["from"]) == ("die", "x", "busybox")
        assert died["timeNano"] == 1000000001
        assert "status" not in connected
        assert (created["status"], "from" in created) == ("create", False)
        assert len((await api.ask("GET", "/v1.45/events")).body.splitlines()) == 2

    with_api(client)


# --- WebSocket ---------------------------------------------------------------------------------

HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_a_websocket_gets_bare_bytes_in_messages(
    with_api: With, make_attachment: Attachments
) -> None:
    async def client(api: Any, backend: Any) -> None:
        for version, kind in (("1.51", BytesMessage), ("1.27", TextMessage)):
            attachment, process = make_attachment()
            backend.containers.answers["attach"] = attachment
            loop, sock = asyncio.get_running_loop(), api.connect()
            path = f"GET /v{version}/containers/web/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1"
            await loop.sock_sendall(sock, path.encode() + b"\r\nHost: x\r\n" + HANDSHAKE)
            answer = await until(sock, b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
            frames = Connection(ConnectionType.CLIENT)
            await loop.sock_sendall(sock, frames.send(TextMessage(data="typed")))
            assert await until(process, b"typed") == b"typed"
            output = frame(1, b"one") + frame(2, b"two")
            await loop.sock_sendall(process, output[:5])
            await loop.sock_sendall(process, output[5:])
            process.close()
            events, text = [], b""
            while not any(isinstance(event, CloseConnection) for event in events):
                frames.receive_data(await loop.sock_recv(sock, 65536))
                events.extend(frames.events())
            for event in events[:-1]:
                assert isinstance(event, kind)
                text += event.data.encode() if isinstance(event.data, str) else event.data
            assert text == b"onetwo"

    with_api(client)


def test_a_request_that_is_no_handshake_is_refused(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("GET", "/containers/web/attach/ws", b"", {"Upgrade": "h2c"})
        assert (reply.status, reply.message) == (400, "not websocket protocol")
        assert backend.containers.calls == []

    with_api(client)
