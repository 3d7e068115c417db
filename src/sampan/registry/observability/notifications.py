"""Notifications: what happened is told to other servers, at least once, in order, across restarts.

An event is in a file of SQLite before the request that caused it is answered. Source:
distribution notifications/event.go, endpoint.go and sinks.go.
"""

from __future__ import annotations

import http.client
import logging
import socket
import sqlite3
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sampan.errors import InvalidArgument
from sampan.http.peers import with_port
from sampan.http.urls import Url, redacted
from sampan.registry.endpoints.call import Call
from sampan.registry.events import Event
from sampan.registry.observability.asking import status_of
from sampan.registry.observability.outbox import Outbox
from sampan.spec.image import parse_document

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/vnd.docker.distribution.events.{}+json"


@dataclass(frozen=True)
class Endpoint:
    """Who is told, and how long we wait."""

    name: str
    url: str
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    timeout: float = 1.0
    threshold: int = 10  # failures in a row, then we wait `backoff`
    backoff: float = 1.0
    ignored_media_types: frozenset[str] = frozenset()
    ignored_actions: frozenset[str] = frozenset()
    version: str = "v1"  # what the form is called: v2 by docker-registry 3, whose members are these

    def __post_init__(self) -> None:
        try:
            self.where  # noqa: B018  it is parsed
        except InvalidArgument:
            shown = redacted(self.url)
            raise InvalidArgument(
                f"notifications: {self.name}: {shown!r} is no http address"
            ) from None

    @property
    def where(self) -> Url:
        """The address."""
        return Url.parse(self.url)

    def wants(self, event: Event) -> bool:
        """Tell whether this endpoint is told of an event."""
        if event.media_type in self.ignored_media_types:
            return False
        return event.action not in self.ignored_actions


class Notifier:
    """Writes events down, and tells them: one thread for each endpoint."""

    def __init__(self, path: Path, endpoints: Sequence[Endpoint], references: bool = False) -> None:
        """`references` adds to manifests what they refer to."""
        self._endpoints = endpoints
        self._references = references
        self._outbox = Outbox(path)
        self._source = {"addr": socket.gethostname(), "instanceID": str(uuid.uuid4())}
        self._end = threading.Event()
        self._news = {endpoint.name: threading.Event() for endpoint in endpoints}
        self._threads = [
            threading.Thread(target=self._tell, args=(endpoint,), name=f"tell {endpoint.name}")
            for endpoint in endpoints
        ]

    def start(self) -> None:
        """Begin to tell what waits."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop telling; what waits is told after the next start."""
        self._end.set()
        for news in self._news.values():
            news.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._outbox.close()

    def __call__(self, call: Call | None, event: Event) -> None:
        """Keep an event for those who want it; `call` is the request that caused it, if one did."""
        wanted = [endpoint.name for endpoint in self._endpoints if endpoint.wants(event)]
        if wanted:
            self._outbox.add(wanted, msgspec.json.encode({"events": [self._body(call, event)]}))
            for name in wanted:
                self._news[name].set()

    def _body(self, call: Call | None, event: Event) -> dict[str, Any]:
        what = "manifests" if event.tag or "manifest" in event.media_type else "blobs"
        what = "manifests" if event.media_type.endswith(("index.v1+json", "v2+json")) else what
        path = f"v2/{event.repository}/{what}/{event.digest}"
        address = call.url(path) if call and event.digest and event.action != "delete" else ""
        target = {
            "mediaType": event.media_type,
            "size": event.size,
            "digest": event.digest,
            "length": event.size,
            "repository": event.repository,
            "fromRepository": event.source,
            "url": address,
            "tag": event.tag,
        }
        if self._references and event.content:
            target["references"] = _references(event.content)
        return {
            "id": str(uuid.uuid4()),
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "action": event.action,
            "target": {name: value for name, value in target.items() if value not in ("", 0)},
            "request": _request(call) if call else {},
            "actor": {"name": call.grant.user} if call and call.grant.user else {},
            "source": self._source,
        }

    def _tell(self, endpoint: Endpoint) -> None:
        failures = 0
        news = self._news[endpoint.name]
        while not self._end.is_set():
            news.clear()
            try:
                reason = self._next(endpoint)
            except sqlite3.Error as error:  # a broken disk, say
                reason = str(error)
            if reason is None:
                news.wait()
                continue
            if not reason:
                failures = 0
                continue
            failures += 1
            if failures >= endpoint.threshold:
                log.error("%s does not take events: %s", endpoint.name, reason)
                self._trim(endpoint)
            self._end.wait(endpoint.backoff if failures >= endpoint.threshold else 0.05)

    def _trim(self, endpoint: Endpoint) -> None:
        try:
            lost = self._outbox.trim(endpoint.name)
        except sqlite3.Error as error:
            log.error("events for %s cannot be given up: %s", endpoint.name, error)
            return
        if lost:
            log.error("%d events for %s are given up", lost, endpoint.name)

    def _next(self, endpoint: Endpoint) -> str | None:
        """Tell the oldest event; return why it failed, empty if it was taken, None without one."""
        found = self._outbox.first(endpoint.name)
        if found is None:
            return None
        number, body = found
        reason = send(endpoint, body)
        if not reason:
            self._outbox.done(endpoint.name, number)
        return reason


def send(endpoint: Endpoint, body: bytes) -> str:
    """Tell one event; return why it failed, empty if it was taken."""
    headers = {"Content-Type": [MEDIA_TYPE.format(endpoint.version)], **endpoint.headers}
    try:
        status = status_of("POST", endpoint.where, headers, endpoint.timeout, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return "" if 200 <= status < 400 else f"status {status}"


def _request(call: Call) -> dict[str, str]:
    request, client = call.request, call.request.client
    return {
        "id": str(uuid.uuid4()),
        "addr": with_port(client.host, client.port) if client else "",
        "host": request.headers.get("host", ""),
        "method": request.method,
        "useragent": request.headers.get("user-agent", ""),
    }


def _references(content: bytes) -> list[dict[str, Any]]:
    try:
        document = parse_document(content)
    except InvalidArgument:  # of schema 1: pulled from an old data directory
        return []
    parts = [*([document.config] if document.config else []), *(document.layers or [])]
    parts += document.manifests or []
    return [msgspec.to_builtins(part) for part in parts]
