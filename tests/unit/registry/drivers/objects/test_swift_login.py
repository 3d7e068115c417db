"""Logging in to Swift by Keystone, whose answers are made here: what is asked and where it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sampan.registry.drivers.objects.options import Options
from sampan.registry.drivers.objects.swift_login import Login

USER = {"username": "u", "password": "p", "container": "c"}


class Keystone(ThreadingHTTPServer):
    """Answers every login, and remembers it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Keystone

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked["auth"])
        urls = {kind: f"https://{kind}.test/v1/AUTH_x" for kind in ("public", "internal", "admin")}
        if self.path.startswith("/v3"):
            listed = [{"interface": k, "url": u, "region": "here"} for k, u in urls.items()]
            catalog = [{"type": "object-store", "endpoints": listed}]
            answer = {"token": {"catalog": catalog, "expires_at": "2100-01-01T00:00:00Z"}}
        else:
            given = {"region": "here", **{f"{kind}URL": url for kind, url in urls.items()}}
            catalog = [{"type": "object-store", "endpoints": [given]}]
            token = {"id": "token", "expires": "2100-01-01T00:00:00Z"}
            answer = {"access": {"token": token, "serviceCatalog": catalog, "user": {}}}
        body = json.dumps(answer).encode()
        self.send_response(201 if self.path.startswith("/v3") else 200)
        self.send_header("X-Subject-Token", "token")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def login(**options: Any) -> tuple[str, str]:
    found = Login.read(Options({**USER, **options}, "storage.swift"))
    connection = found.connect(timeout=5)
    url, token = connection.get_auth()
    connection.close()
    return url, token


def test_a_project_of_a_domain(keystone: Keystone) -> None:
    url = f"{keystone.url}/v3"
    told = login(authurl=url, tenant="t", domain="d", region="here", endpointtype="internal")
    assert told == ("https://internal.test/v1/AUTH_x", "token")
    (asked,) = keystone.asked
    user = asked["identity"]["password"]["user"]
    assert user == {"name": "u", "password": "p", "domain": {"name": "d"}}
    assert asked["scope"] == {"project": {"name": "t", "domain": {"name": "d"}}}


def test_a_project_by_its_id_and_the_default_domain(keystone: Keystone) -> None:
    login(authurl=f"{keystone.url}/v3", tenantid="7", tenantdomainid="9")
    (asked,) = keystone.asked
    assert asked["identity"]["password"]["user"]["domain"] == {"id": "default"}
    assert asked["scope"] == {"project": {"id": "7"}}


def test_a_trust_says_what_it_is_for(keystone: Keystone) -> None:
    login(authurl=f"{keystone.url}/v3", tenant="t", trustid="trust")
    (asked,) = keystone.asked
    assert asked["scope"] == {"OS-TRUST:trust": {"id": "trust"}}


def test_the_second_version_knows_tenants(keystone: Keystone) -> None:
    told = login(authurl=f"{keystone.url}/v2.0", tenant="t")
    assert told == ("https://public.test/v1/AUTH_x", "token")
    (asked,) = keystone.asked
    assert asked["passwordCredentials"] == {"username": "u", "password": "p"}
    assert asked["tenantName"] == "t"
