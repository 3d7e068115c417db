"""A daemon of canned answers: what command lines ask, and what they make of any answer."""

from __future__ import annotations

import base64
import contextlib
import json
import socketserver
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

API_VERSION = "1.50"


@dataclass(frozen=True)
class Reply:
    """One answer. `pieces` go out as chunks; `cut` ends the connection without the last one."""

    status: int = 200
    pieces: Iterable[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def document(value: object, status: int = 200) -> Reply:
    """Answer with a JSON document."""
    return Reply(status, [json.dumps(value).encode() + b"\n"], {"Content-Type": "application/json"})


def error(status: int, message: str) -> Reply:
    """Answer with an error of the API."""
    return document({"message": message}, status)


def stream(*messages: object, cut: bool = False) -> Reply:
    """Answer with JSON messages, each in a chunk of its own; bytes go as they are."""
    pieces = [
        message if isinstance(message, bytes) else json.dumps(message).encode() + b"\r\n"
        for message in messages
    ]
    return Reply(200, pieces, {"Content-Type": "application/json"}, cut)


@dataclass(frozen=True)
class Asked:
    """One request, levelled: without the version, with the query and login decoded."""

    method: str
    path: str
    query: dict[str, Any]
    login: dict[str, Any]
    body: Any
    media_type: str = ""
    raw: bytes = b""


Compute = Callable[[Asked], Reply]
Replies = Mapping[str, Reply | Compute | Sequence[Reply]]


class FakeDaemon:
    """Answers "GET /images/json" and the like from a table, or by functions in it.

    A list in the table is answered one by one; its last reply stays. Paths may end with `*`.
    """

    def __init__(self, folder: Path, replies: Replies | None = None) -> None:
        self.path = folder / "engine.sock"
        self.asked: list[Asked] = []
        self.replies: dict[str, list[Reply | Compute]] = {
            name: [*reply] if isinstance(reply, Sequence) else [reply]
            for name, reply in (replies or {}).items()
        }
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            line = f"{asked.method} {asked.path}"
            for pattern, replies in self.replies.items():
                if line == pattern or (pattern[-1:] == "*" and line.startswith(pattern[:-1])):
                    chosen = replies.pop(0) if len(replies) > 1 else replies[0]
                    return chosen if isinstance(chosen, Reply) else chosen(asked)
        return error(404, "page not found")

    @contextlib.contextmanager
    def serving(self) -> Iterator[FakeDaemon]:
        """Serve for the block."""
        daemon = self

        class Handler(_Handler):
            fake = daemon

        server = _Server(str(self.path), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            self.path.unlink()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    fake: FakeDaemon
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "client"

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # clients leave as they like
            super().handle()

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _asked(self) -> Asked:
        path, _, query = self.path.partition("?")
        parts = path.split("/", 2)
        if parts[1].startswith("v1.") and len(parts) == 3:
            path = "/" + parts[2]
        found: dict[str, Any] = {}
        for name, values in urllib.parse.parse_qs(query, keep_blank_values=True).items():
            kept = [_parsed(value) for value in values if value]
            if kept and kept != ["0"]:
                found[name] = kept
        login = self.headers.get("X-Registry-Auth", "")
        body = self._body()
        return Asked(
            self.command,
            urllib.parse.unquote(path),
            found,
            json.loads(base64.urlsafe_b64decode(login)) if login else {},
            _parsed(body.decode("latin-1")) if body else None,
            self.headers.get("Content-Type", "") if self.command == "PUT" else "",
            body if self.command == "PUT" else b"",
        )

    def _answer(self) -> None:
        asked = self._asked()
        if asked.path == "/_ping":
            reply = Reply(200, [] if self.command == "HEAD" else [b"OK"])
        else:
            reply = self.fake.reply(asked)
        self.send_response_only(reply.status)
        for name, value in {
            "Api-Version": API_VERSION,
            "Ostype": "linux",
            "Server": "Docker/28.2.2 (linux)",
            **reply.headers,
        }.items():
            self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in reply.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if reply.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in "{[" else text
    except ValueError:
        return text
