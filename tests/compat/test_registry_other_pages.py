"""A page of another site that asks the registry from the browser, as docker-registry-ui does."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Error

from sampan.spec.image import MEDIA_DOCKER_MANIFEST, MEDIA_MANIFEST
from tests.browser import visit
from tests.documents import blocks
from tests.registries import DEBIANS, OURS, registry
from tests.remote_images import busybox, push
from tests.wire import Server, Site, serving

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
USERS = {"captain": "secret"}
LOGIN = "Basic " + base64.b64encode(b"captain:secret").decode()
ASK = """async ([method, url, headers]) => {
    const answer = await fetch(url, {method, headers, credentials: "include"});
    return [answer.status, answer.headers.get("Docker-Content-Digest"), await answer.text()];
}"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href=data:,><title>elsewhere</title>")

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def elsewhere(namespace: str) -> Iterator[str]:
    site = Site(namespace)
    with serving(Server(site, _Page)):
        yield site.url


def settings(origin: str) -> dict[str, Any]:
    """Return what our documentation tells to set, for this page."""
    page, heading = "how-to/registry-clients.md", "Behind a web page of another site"
    (text,) = blocks(page, heading, "yaml")
    found: dict[str, Any] = yaml.safe_load(text.replace("https://ui.example.com", origin))
    return found


@pytest.mark.parametrize("users", [None, USERS], ids=["everybody", "users"])
def test_it_lists_reads_and_deletes(
    namespace: str, browser: Browser, elsewhere: str, users: dict[str, str] | None
) -> None:
    login = {"Authorization": LOGIN} if users else {}
    with registry(namespace, users=users, program=OURS, more=settings(elsewhere)) as hub:
        shipped = busybox()
        push(hub, "team/app", "1", shipped)
        for page in visit(browser):
            page.goto(elsewhere)

            def ask(method: str, path: str, **headers: str) -> list[Any]:
                given = {**login, **headers, "Cache-Control": "no-cache"}
                return page.evaluate(ASK, [method, hub.url + path, given])  # type: ignore  # noqa: B023

            assert "team/app" in ask("GET", "/v2/_catalog?n=1000")[2]
            assert '"1"' in ask("GET", "/v2/team/app/tags/list")[2]
            manifest = "/v2/team/app/manifests/1"
            accept = f"{MEDIA_DOCKER_MANIFEST}, {MEDIA_MANIFEST}"
            status, digest, text = ask("GET", manifest, Accept=accept)
            assert (status, digest) == (200, shipped.digest)
            assert shipped.config.digest in text
            blob = ask("GET", f"/v2/team/app/blobs/{shipped.config.digest}")[2]
            assert blob.encode() == shipped.config.content
            assert ask("DELETE", f"/v2/team/app/manifests/{digest}")[0] == 202
        assert hub.tags("team/app") == []


def test_a_page_that_is_not_named_is_kept_out(
    namespace: str, browser: Browser, elsewhere: str
) -> None:
    more = settings("https://ui.example.com")
    with registry(namespace, program=OURS, more=more) as hub:
        context = browser.new_context()
        page = context.new_page()
        page.goto(elsewhere)
        with pytest.raises(Error, match="Failed to fetch"):
            page.evaluate(ASK, ["GET", f"{hub.url}/v2/_catalog", {}])
        context.close()


def test_what_is_allowed_is_said_as_docker_registry_says_it(namespace: str, elsewhere: str) -> None:
    asked = {"Origin": elsewhere, "Access-Control-Request-Method": "DELETE"}
    more = settings(elsewhere)
    answers = []
    for program in (DEBIANS, OURS):
        with registry(namespace, program=program, more=more) as hub:
            found = []
            for path in ("/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/1"):
                reply = hub.ask("OPTIONS", path, headers=asked)
                told = {
                    name.lower(): reply.headers.get_all(name)
                    for name in reply.headers
                    if name.lower().startswith("access-control-")
                }
                found.append((path, reply.status, told))
            answers.append(found)
    assert answers[0] == answers[1]
