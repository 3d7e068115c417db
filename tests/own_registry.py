"""Our own registry inside the test: requests go straight into the application, with no server.

with Registry.in_memory() as registry, serving(registry) as shop:
    shop.push_blob("team/app", b"content")
    assert shop.get("/v2/team/app/tags/list").status == 404
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from sampan.registry.application import Application
from sampan.registry.auth.access import Access
from sampan.registry.content.documents import UrlRules, Validation
from sampan.registry.endpoints.call import Emit
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from sampan.spec.image import MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST

ANY_URL = Validation(UrlRules(disabled=True))


def sha(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@dataclass
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def __repr__(self) -> str:
        # asyncio.run() has its task told in words, and throws them away.
        return f"Answer({self.status}, {self.headers}, {self.body[:1000]!r})"

    def header(self, name: str) -> str:
        """The header's values, joined; empty if it is missing."""
        return ", ".join(value for key, value in self.headers if key == name.lower())

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(self.json["errors"][0]["code"])


class Shop:
    """Asks one application."""

    def __init__(self, application: Application) -> None:
        self.application = application

    @property
    def registry(self) -> Registry:
        return self.application.registry

    def ask(
        self,
        method: str,
        url: str,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        hang_up: bool = False,
        extensions: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send a request; a body of several pieces is chunked, `hang_up` breaks it off."""
        return asyncio.run(self.asked(method, url, body, headers or {}, hang_up, extensions or {}))

    def ask_together(self, requests: Sequence[tuple[str, str, bytes]]) -> list[Answer]:
        """Send requests (method, address, body) at once; return their answers in that order."""

        async def asked() -> list[Answer]:
            return await asyncio.gather(*(self.asked(*request, {}) for request in requests))

        return asyncio.run(asked())

    async def asked(
        self,
        method: str,
        url: str,
        body: bytes | Sequence[bytes],
        headers: Mapping[str, str],
        hang_up: bool = False,
        extensions: Mapping[str, Any] | None = None,
        answer: Answer | None = None,
        client: str = "192.0.2.7",
    ) -> Answer:
        """Send a request in the running loop; `answer` shows what has come so far."""
        parts = urlsplit(url)
        given = {"host": "registry.test", **{k.lower(): v for k, v in headers.items()}}
        pieces = [body] if isinstance(body, bytes) else list(body)
        if isinstance(body, bytes) and body and not hang_up:
            given.setdefault("content-length", str(len(body)))
        messages = [
            {"type": "http.request", "body": piece, "more_body": hang_up or n + 1 < len(pieces)}
            for n, piece in enumerate(pieces)
        ]
        answer = answer or Answer()

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [(k.decode(), v.decode()) for k, v in message["headers"]]
            elif message["type"] == "http.response.pathsend":
                with open(message["path"], "rb") as file:
                    answer.body += file.read()
            else:
                answer.body += message.get("body", b"")

        scope = {
            "type": "http",
            "method": method,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
            "client": (client, 1234),
            "server": ("registry.test", 80),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
            "extensions": dict(extensions or {}),
        }
        await self.application(scope, receive, send)
        return answer

    def get(self, url: str, **headers: str) -> Answer:
        return self.ask("GET", url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def begin(self, name: str, query: str = "") -> str:
        """Begin an upload and return its path."""
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/{query}")
        assert answer.status == 202, answer
        return urlsplit(answer.header("location")).path

    def push_blob(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        """Push a blob in two requests and return its digest."""
        digest = sha(content, algorithm)
        place = self.begin(name)
        answer = self.ask("PUT", f"{place}?digest={digest}", content)
        assert answer.status == 201, answer
        return digest

    def push(
        self,
        name: str,
        reference: str,
        layers: Sequence[bytes] = (b"layer",),
        config: bytes = b"{}",
        **more: Any,
    ) -> str:
        """Push an image; `more` are members of its manifest. Return its digest."""
        digests = [self.push_blob(name, layer) for layer in layers]
        self.push_blob(name, config)
        body = manifest(digests, layers, config, **more)
        answer = self.put(name, reference or sha(body), body)
        assert answer.status == 201, answer
        return sha(body)

    def put(
        self, name: str, reference: str, body: bytes, media_type: str = MEDIA_MANIFEST
    ) -> Answer:
        """Put a manifest."""
        return self.ask(
            "PUT", f"/v2/{name}/manifests/{reference}", body, {"Content-Type": media_type}
        )

    def tags(self, name: str) -> list[str]:
        return list(self.get(f"/v2/{name}/tags/list").json["tags"])


def manifest(
    digests: Sequence[str], layers: Sequence[bytes], config: bytes = b"{}", **more: Any
) -> bytes:
    """Return an OCI image manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "config": {"mediaType": MEDIA_CONFIG, "digest": sha(config), "size": len(config)},
        "layers": [
            {"mediaType": MEDIA_LAYER, "digest": digest, "size": len(layer)}
            for digest, layer in zip(digests, layers, strict=True)
        ],
        **more,
    }
    return json.dumps(document).encode()


def index(children: Sequence[tuple[str, int]], **more: Any) -> bytes:
    """Return an OCI index of (digest, size)."""
    listed = [{"mediaType": MEDIA_MANIFEST, "digest": d, "size": n} for d, n in children]
    document = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": listed, **more}
    return json.dumps(document).encode()


@contextlib.contextmanager
def serving(
    registry: Registry,
    service: Service | None = None,
    access: Access | None = None,
    emit: Emit | None = None,
) -> Iterator[Shop]:
    """Serve an open registry; deletes are enabled unless `service` says otherwise."""
    application = Application(registry, service or Service(deletes=True), access, emit)
    try:
        yield Shop(application)
    finally:
        application.close()
