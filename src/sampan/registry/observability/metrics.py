"""Figures for Prometheus, with docker-registry's names where it has the same."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.registry.observability.answered import Answered
from sampan.registry.service import HANDLER

METHODS = frozenset({"delete", "get", "head", "options", "patch", "post", "put"})


class Metrics:
    """An application around another one that counts."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "registry_http_requests",
            "Requests that were answered.",
            ("code", "handler", "method"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "registry_http_request_duration_seconds",
            "How long they took.",
            ("handler", "method"),
            registry=self._registry,
        )
        self._sent = Counter(
            "registry_http_response_bytes",
            "Bytes of the bodies that were sent.",
            ("handler",),
            registry=self._registry,
        )
        self._now = Gauge(
            "registry_http_in_flight_requests",
            "Requests that are being answered.",
            registry=self._registry,
        )

    def add(self, figures: Collector) -> None:
        """Tell figures of somebody else, too."""
        self._registry.register(figures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        begun = time.monotonic()
        answered = Answered(scope, send)
        self._now.inc()
        try:
            await self._application(scope, receive, answered)
        finally:
            self._now.dec()
            handler = scope.get(HANDLER, "none")
            # A method of the client's own choice would make figures without end.
            method = scope["method"].lower()
            if handler == "none" or method not in METHODS:
                method = "other"
            if answered.status:
                self._requests.labels(str(answered.status), handler, method).inc()
                self._sent.labels(handler).inc(answered.sent)
            self._seconds.labels(handler, method).observe(time.monotonic() - begun)

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)
