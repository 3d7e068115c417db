"""A registry that speaks the distribution API, counts, and lies when it is told to.

with lying_registry(daemon.namespace) as liar:
    push(liar, "library/app", "1", image)
    liar.lie("GET", image.layers[0].digest, corrupt, times=1)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registries import Authority, add_address
from tests.remote_images import OCTETS, digest
from tests.wire import LOOPBACK, Log, Reply, Server, Site, TLSServer, serving

PIECE = 64 << 10
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags)/(?P<rest>.+)")


@dataclass
class Answer:
    """What an honest registry would say; a lie changes it, or says something else itself."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Lie = Callable[["Handler", Answer], Answer | None]  # None: the lie has answered


@dataclass
class _Told:
    method: str
    part: str
    lie: Lie
    times: int  # -1: for ever


@dataclass
class LyingRegistry:
    """A running registry. `log` has its requests; `tokens` are the bearer tokens it takes."""

    site: Site
    manifests: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    challenge: str = ""  # the WWW-Authenticate of a 401, if tokens are wanted
    tokens: set[str] = field(default_factory=set)
    mounts: bool = True
    authority: Authority | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    _lies: list[_Told] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.site.address

    @property
    def url(self) -> str:
        return self.site.url

    def lie(self, method: str, part: str, lie: Lie, times: int = -1) -> None:
        """Lie in answers to requests with this method and this in their path."""
        self._lies.append(_Told(method, part, lie, times))

    def be_honest(self) -> None:
        """Forget all lies."""
        self._lies.clear()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request that is neither counted nor lied to."""
        return self.site.ask(method, path, body, {**(headers or {}), "X-Honest": "please"})

    def lie_for(self, method: str, path: str) -> Lie | None:
        """Return how to lie to this request, if at all."""
        with self.lock:
            for told in self._lies:
                if told.times and told.method in ("", method) and told.part in path:
                    told.times -= 1
                    return told.lie
        return None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    liar: LyingRegistry

    def _handle(self) -> None:
        self.url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(self.url.query).items()}
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.content = b"".join(self._chunks())
        lie = None
        if not self.headers.get("X-Honest"):
            self.liar.log.lines.append((self.command, self.path))
            lie = self.liar.lie_for(self.command, self.path)
        answer: Answer | None = self.honest()
        if lie and answer:
            answer = lie(self, answer)
        if answer:
            self.send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def begin(self, answer: Answer, length: int | None = None) -> None:
        """Send the head; `length` may be another than that of the body."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if length is None else length))
        self.end_headers()

    def send(self, answer: Answer) -> None:
        """Send an answer."""
        self.begin(answer)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def hang_up(self) -> None:
        """Close the connection after what has been sent."""
        self.close_connection = True

    # --- the distribution API ----------------------------------------------------------------

    def honest(self) -> Answer:
        liar, path = self.liar, self.url.path
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if liar.challenge and bearer not in liar.tokens and not self.headers.get("X-Honest"):
            refused = error(401, "UNAUTHORIZED", "authentication required")
            refused.headers["WWW-Authenticate"] = liar.challenge
            return refused
        if path in ("/v2", "/v2/"):
            return Answer(headers={"Docker-Distribution-API-Version": "registry/2.0"}, body=b"{}")
        match = _PATH.fullmatch(path)
        if not match and path.endswith("/blobs/uploads"):
            match = _PATH.fullmatch(path + "/.")
        if not match:
            return error(404, "UNSUPPORTED", "no such page")
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if kind == "manifests":
            return self._manifest(name, rest)
        if kind == "tags":
            tags = [tag for tag in liar.manifests.get(name, {}) if ":" not in tag]
            return Answer(body=json.dumps({"name": name, "tags": sorted(tags)}).encode())
        return self._upload(name, rest) if rest.startswith("uploads") else self._blob(name, rest)

    def _manifest(self, name: str, reference: str) -> Answer:
        held = self.liar.manifests.setdefault(name, {})
        if self.command == "PUT":
            kind = self.headers.get("Content-Type", "")
            algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
            key = digest(self.content, algorithm)
            held[reference] = held[key] = (kind, self.content)
            return Answer(201, {"Docker-Content-Digest": key, "Location": self.path})
        if reference not in held:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        kind, content = held[reference]
        known = reference if ":" in reference else digest(content)
        return Answer(200, {"Content-Type": kind, "Docker-Content-Digest": known}, content)

    def _blob(self, name: str, wanted: str) -> Answer:
        content = self.liar.blobs.get(name, {}).get(wanted)
        if content is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {
            "Content-Type": OCTETS,
            "Docker-Content-Digest": wanted,
            "Accept-Ranges": "bytes",
        }
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not part:
            return Answer(200, headers, content)
        first, last = int(part[1]), int(part[2] or len(content) - 1)
        if first >= len(content):
            return error(416, "RANGE_INVALID", "invalid range")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Answer(206, headers, content[first : last + 1])

    def _upload(self, name: str, rest: str) -> Answer:
        held = self.liar.blobs.setdefault(name, {})
        if self.command == "POST":
            source = self.liar.blobs.get(self.query.get("from", ""), {})
            mounted = self.query.get("mount", "")
            if self.liar.mounts and mounted in source:
                held[mounted] = source[mounted]
                return Answer(201, {"Location": f"/v2/{name}/blobs/{mounted}"})
            session = secrets.token_hex(8)
            self.liar.uploads[session] = bytearray(self.content)
            return self._accepted(name, session)
        session = rest.removeprefix("uploads/")
        data = self.liar.uploads.get(session)
        if data is None:
            return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        data += self.content
        if self.command != "PUT":
            return self._accepted(name, session)
        wanted = self.query.get("digest", "")
        if digest(bytes(data), wanted.partition(":")[0] or "sha256") != wanted:
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        held[wanted] = bytes(data)
        del self.liar.uploads[session]
        return Answer(
            201, {"Location": f"/v2/{name}/blobs/{wanted}", "Docker-Content-Digest": wanted}
        )

    def _accepted(self, name: str, session: str) -> Answer:
        last = max(len(self.liar.uploads[session]) - 1, 0)
        return Answer(
            202,
            {
                "Location": f"/v2/{name}/blobs/uploads/{session}",
                "Docker-Upload-UUID": session,
                "Range": f"0-{last}",
            },
        )

    def log_message(self, format: str, *args: Any) -> None:
        """The requests are in the registry's log."""


def error(status: int, code: str, message: str) -> Answer:
    """Return an error as registries word it."""
    body = json.dumps(
        {"errors": [{"code": code, "message": message, "detail": {"told": True}}]}
    ).encode()
    return Answer(status, {"Content-Type": "application/json"}, body)


# --- lies ------------------------------------------------------------------------------------


def corrupt(handler: Handler, answer: Answer) -> Answer:
    """Change the last byte of the body."""
    return Answer(answer.status, answer.headers, answer.body[:-1] + bytes([answer.body[-1] ^ 1]))


def longer(handler: Handler, answer: Answer) -> Answer:
    """Send more than there is."""
    return Answer(answer.status, answer.headers, answer.body + b"x" * 4096)


def shorter(handler: Handler, answer: Answer) -> Answer:
    """Send half of it, and say that this is all."""
    return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2])


def broken_off(handler: Handler, answer: Answer) -> None:
    """Promise all, send half, and close."""
    handler.begin(answer)
    handler.wfile.write(answer.body[: len(answer.body) // 2])
    handler.hang_up()


def no_answer(handler: Handler, answer: Answer) -> None:
    """Close without a word."""
    handler.hang_up()


def silent(handler: Handler, answer: Answer) -> None:
    """Send half, then nothing until the registry ends."""
    handler.begin(answer)
    handler.wfile.write(answer.body[: len(answer.body) // 2])
    handler.server.ending.wait()
    handler.hang_up()


def mute(handler: Handler, answer: Answer) -> None:
    """Never answer."""
    handler.server.ending.wait()
    handler.hang_up()


def endless(handler: Handler, answer: Answer) -> None:
    """Send without an end, in chunks."""
    handler.send_response(answer.status)
    for name, value in {**answer.headers, "Transfer-Encoding": "chunked"}.items():
        handler.send_header(name, value)
    handler.end_headers()
    for content in itertools.chain([answer.body], itertools.repeat(bytes(PIECE))):
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        if handler.server.ending.is_set():
            break
    handler.hang_up()


def unsized(handler: Handler, answer: Answer) -> None:
    """Send without a length; the end is the end of the connection."""
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(answer.body)
    handler.hang_up()


def no_ranges(handler: Handler, answer: Answer) -> Answer:
    """Send the whole even if a part was asked for."""
    del handler.headers["Range"]
    return handler.honest()


def slow(seconds: float, piece: int = 1024) -> Lie:
    """Return a lie that pauses between small pieces."""

    def lie(handler: Handler, answer: Answer) -> None:
        handler.begin(answer)
        for at in range(0, len(answer.body), piece):
            handler.wfile.write(answer.body[at : at + piece])
            if handler.server.ending.wait(seconds):
                handler.hang_up()
                return

    return lie


def held_until(event: threading.Event, after: int = 0) -> Lie:
    """Return a lie that sends `after` bytes of the body and the rest when the event is set."""

    def lie(handler: Handler, answer: Answer) -> None:
        handler.begin(answer)
        handler.wfile.write(answer.body[:after])
        while not event.wait(0.02) and not handler.server.ending.is_set():
            pass
        handler.wfile.write(answer.body[after:])

    return lie


def when(condition: Callable[[], object], lie: Lie) -> Lie:
    """Return a lie that waits until a condition holds."""

    def lie_then(handler: Handler, answer: Answer) -> Answer | None:
        while not condition() and not handler.server.ending.wait(0.02):
            pass
        return lie(handler, answer)

    return lie_then


def status(code: int, error_code: str = "UNKNOWN", message: str = "", **headers: str) -> Lie:
    """Return a lie that refuses; `Retry_After="1"` gives a header Retry-After."""

    def lie(handler: Handler, answer: Answer) -> Answer:
        refused = error(code, error_code, message or f"told to say {code}")
        refused.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return refused

    return lie


def redirect(to: str, code: int = 307) -> Lie:
    """Return a lie that sends the client elsewhere."""
    return lambda handler, answer: Answer(code, {"Location": to})


def circle(handler: Handler, answer: Answer) -> Answer:
    """Send the client to where it is."""
    return Answer(307, {"Location": handler.path})


def media_type(kind: str) -> Lie:
    """Return a lie about the media type."""
    return lambda handler, answer: Answer(
        answer.status, {**answer.headers, "Content-Type": kind}, answer.body
    )


def header(**headers: str) -> Lie:
    """Return a lie in headers; `Docker_Content_Digest="…"` sets Docker-Content-Digest."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, answer: Answer(answer.status, {**answer.headers, **given}, answer.body)


def body(content: bytes) -> Lie:
    """Return a lie that sends something else."""
    return lambda handler, answer: Answer(answer.status, answer.headers, content)


@contextlib.contextmanager
def lying_registry(
    namespace: str = "", *, host: str = LOOPBACK, tls: bool = False
) -> Iterator[LyingRegistry]:
    """Run such a registry in a network namespace; "" is the host's."""
    authority = Authority(host) if tls else None
    site = Site(namespace, host, context=authority.context() if authority else None)
    if host != LOOPBACK:
        add_address(namespace, host)
    liar = LyingRegistry(site, authority=authority)
    handler = type("BoundHandler", (Handler,), {"liar": liar})
    server = TLSServer(site, handler) if authority else Server(site, handler)
    if authority and isinstance(server, TLSServer):
        server.use(authority.server)
    with serving(server):
        yield liar
