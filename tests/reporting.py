"""Doubles of the services that errors and transactions are reported to.

with bugsnag(namespace) as service:
    ...
    assert service.errors()[0]["events"]
"""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme

from tests.wire import LOOPBACK, Server, Site, TLSServer, serving


@dataclass(frozen=True)
class Report:
    """One request to a service."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Service:
    """What a service was told, and what it answers."""

    site: Site
    reports: list[Report] = field(default_factory=list)
    status: int = 200

    def bodies(self) -> list[Any]:
        return [report.body for report in self.reports]


def _unpacked(headers: Any, body: bytes) -> bytes:
    kind = headers.get("Content-Encoding", "")
    if kind == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if kind == "deflate" else body


def _handler(service: Service, answer: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = json.loads(_unpacked(self.headers, body))
            report = Report(self.path, dict(self.headers), told)
            service.reports.append(report)
            content = json.dumps(answer(report)).encode()
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    return Handler


@contextlib.contextmanager
def bugsnag(namespace: str) -> Iterator[Service]:
    """Take errors as notify.bugsnag.com does."""
    service = Service(Site(namespace))
    server = Server(service.site, _handler(service, lambda report: {}))
    with serving(server):
        yield service


def called(report: Report) -> str:
    """Return which method of New Relic's collector a request calls."""
    return parse_qs(urlsplit(report.path).query)["method"][0]


@contextlib.contextmanager
def collector(namespace: str, ca_file: Path) -> Iterator[Service]:
    """Take transactions as collector.newrelic.com does; its authority's certificate is in a file.

    Source: the agent's own newrelic/core/agent_protocol.py.
    """
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(ca_file))
    service = Service(Site(namespace, context=None))

    def answer(report: Report) -> dict[str, Any]:
        method = called(report)
        if method == "preconnect":
            return {"return_value": {"redirect_host": LOOPBACK}}
        if method == "connect":
            # It may try to order more than transactions.
            more = {
                "collect_errors": True,
                "agent_config": {"error_collector.enabled": True, "capture_params": True},
                "event_harvest_config": {
                    "report_period_ms": 1000,
                    "harvest_limits": {"analytic_event_data": 1000, "error_event_data": 100},
                },
            }
            return {"return_value": {"agent_run_id": "1", "collect_analytics_events": True, **more}}
        if method == "get_agent_commands":
            return {"return_value": []}
        return {"return_value": None}

    server = TLSServer(service.site, _handler(service, answer))
    server.use(ca.issue_cert(LOOPBACK))
    with serving(server):
        yield service
