"""The machine's clock is set while the registry runs, and while it does not.

Nothing goes that was acknowledged, nothing is seen that was not, and when the clock is right again
all is as it was, with no help.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from sampan.registryd.main import main
from tests.machine_clock import NEEDS_CLOCK, MachineClock, machine_clock
from tests.own_registry import manifest, sha
from tests.registries import OURS, Registry, registry
from tests.session import eventually, scratch
from tests.stores import free_port
from tests.token_service import PATH, SERVICE, add_users, administer, section, trust

pytestmark = [pytest.mark.compat, pytest.mark.slow, NEEDS_CLOCK]
HOUR = 3600.0
YEAR = 365 * 24 * HOUR
JUMPS = [HOUR, YEAR, -YEAR, 14 * YEAR, 0.0, -HOUR, 0.0]
OCI = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
# The strictest that is allowed while clients push; all that is old goes.
RULES = {
    "storage": {
        "maintenance": {
            "uploadpurging": {"enabled": True, "age": "1h", "interval": "1s", "dryrun": False},
            "garbagecollection": {"enabled": True, "delay": "60s", "interval": "1s"},
        }
    },
    "retention": {
        "interval": "1s",
        "rules": [{"repositories": ["**"], "keepwithin": "30m", "untagged": "30m"}],
    },
}


@pytest.fixture
def clock() -> Iterator[MachineClock]:
    with machine_clock() as found:
        yield found


def tidy(hub: Registry) -> None:
    """Have everything go that is old, at once. It may be what the registry is doing just then."""
    for command in ("garbage-collect", "retention"):
        words = [command, str(hub.folder / "config.yml")]
        eventually(partial(_succeeds, words))


def _succeeds(words: list[str]) -> bool:
    return main(words) == 0


class Client:
    """Pushes images, and knows what was acknowledged."""

    def __init__(self, hub: Registry) -> None:
        self.hub = hub
        self.blobs: list[bytes] = []
        self.tags: dict[str, str] = {}

    def begin(self, piece: bytes) -> str:
        """Begin an upload with a first piece; return its path."""
        started = self.hub.ask("POST", "/v2/team/app/blobs/uploads/")
        assert started.status == 202, started
        return self.go_on(urlsplit(started.headers["Location"]).path, piece)

    def go_on(self, place: str, piece: bytes) -> str:
        answer = self.hub.ask("PATCH", place, piece)
        assert answer.status == 202, answer
        return place

    def end(self, place: str, content: bytes) -> None:
        """End an upload whose bytes have all been sent."""
        assert self.hub.ask("PUT", f"{place}?digest={sha(content)}").status == 201
        self.blobs.append(content)

    def tag(self, tag: str, layer: bytes) -> None:
        """Push a manifest of what is there."""
        body = manifest([sha(layer)], [layer])
        answer = self.hub.ask("PUT", f"/v2/team/app/manifests/{tag}", body, OCI)
        assert answer.status == 201, answer
        self.tags[tag] = sha(body)

    def push(self, tag: str) -> None:
        """Push an image at once."""
        layer = f"layer of {tag}".encode()
        for content in (layer, b"{}"):
            self.end(self.begin(content), content)
        self.tag(tag, layer)

    def check(self) -> None:
        """Find what was acknowledged."""
        assert self.hub.tags("team/app") == sorted(self.tags)
        for tag, digest in self.tags.items():
            answer = self.hub.ask("GET", f"/v2/team/app/manifests/{tag}")
            assert (answer.status, sha(answer.body)) == (200, digest), tag
        for content in self.blobs:
            assert self.hub.ask("GET", f"/v2/team/app/blobs/{sha(content)}").body == content


def test_pushes_go_on_while_the_clock_is_set(clock: MachineClock) -> None:
    with ExitStack() as stack:
        with clock.over_new_processes():
            users = {"alice": "secret"}  # by htpasswd
            hub = stack.enter_context(registry(program=OURS, users=users, more=RULES))
        client = Client(hub)
        client.push("first")
        for number, ahead in enumerate(JUMPS):
            layer = b"one piece %d" % number + b" and another"
            place = client.begin(layer[:11])
            promised = b"promised %d" % number
            client.end(client.begin(promised), promised)
            clock.set(ahead)
            tidy(hub)
            assert hub.ask("HEAD", f"/v2/team/app/blobs/{sha(layer)}").status == 404
            client.end(client.go_on(place, layer[11:]), layer)
            client.tag(f"slow-{number}", layer)
            client.tag(f"promised-{number}", promised)
            client.push(f"quick-{number}")
            tidy(hub)
            client.check()


@pytest.mark.parametrize("ahead", [YEAR, 14 * YEAR, -YEAR])
def test_a_clock_that_is_wrong_from_the_start_takes_nothing(
    clock: MachineClock, ahead: float
) -> None:
    with ExitStack() as stack:
        with clock.over_new_processes():
            hub = stack.enter_context(registry(program=OURS, more=RULES))
        client = Client(hub)
        client.push("before")
        layer = b"half of it, and the rest"
        place = client.begin(layer[:8])
        for wrong in (ahead, 0.0):
            hub.kill()
            clock.set(wrong)
            with clock.over_new_processes():
                hub.start()
            tidy(hub)
            client.check()
            client.push(f"at {wrong:+.0f}".replace(" ", "").replace("+", ""))
        client.end(client.go_on(place, layer[8:]), layer)
        client.tag("slow", layer)
        tidy(hub)
        client.check()


def test_logins_outlive_a_clock_that_is_set(clock: MachineClock) -> None:
    folder, port = scratch(), free_port()
    tokens = section(folder, keys={"rotation": "1h"}, lifetime="60s")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        with clock.over_new_processes():
            more = {**tokens, **trust(folder, f"http://127.0.0.1:{port}{PATH}")}
            hub = stack.enter_context(registry(program=OURS, port=port, more=more))
        config = hub.folder / "config.yml"
        add_users(config, {"alice": "secret", "bob": "secret"})
        administer(config, "rule", "add", "users", "**", "all")
        kept = _login(hub, "alice")["refresh_token"]
        # The root itself is valid for 20 years, and since an hour before it was made.
        for ahead in (YEAR, 14 * YEAR, -HOUR / 2, 0.0):
            clock.set(ahead)
            _login(hub, "bob")  # which takes away what is old
            token = _login(hub, "alice")["token"]
            bearer = {"Authorization": f"Bearer {token}"}
            found = hub.site.ask("GET", "/v2/team/app/tags/list", None, bearer)
            assert found.status == 404, (ahead, found)  # which is not 401
        form = {"grant_type": "refresh_token", "service": SERVICE, "refresh_token": kept}
        form["client_id"] = "test"
        answer = hub.site.ask(
            *("POST", PATH, urlencode(form).encode()),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status == 200, answer


def _login(hub: Registry, user: str) -> dict[str, Any]:
    pair = base64.b64encode(f"{user}:secret".encode()).decode()
    query = urlencode(
        {"service": SERVICE, "scope": "repository:team/app:pull", "offline_token": "true"}
    )
    answer = hub.site.ask("GET", f"{PATH}?{query}", None, {"Authorization": f"Basic {pair}"})
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


def test_certificates_of_clients_are_taken_again_when_the_clock_is_right(
    clock: MachineClock,
) -> None:
    with ExitStack() as stack:
        with clock.over_new_processes():
            hub = stack.enter_context(registry(program=OURS, tls=True, client_ca=True))
        # They are valid from the year 2000 on.
        for ahead, taken in ((0.0, True), (-40 * YEAR, False), (0.0, True)):
            clock.set(ahead)
            try:
                found = hub.ask("GET", "/v2/").status == 200
            except OSError:
                found = False
            assert found == taken, ahead


def test_a_cache_forgets_nothing_because_the_clock_is_set(clock: MachineClock) -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(registry(program=OURS))
        Client(upstream).push("1")
        proxy = {"proxy": {"remoteurl": upstream.url, "ttl": "1h"}}
        with clock.over_new_processes():
            cache = stack.enter_context(registry(program=OURS, more=proxy))
        path = "/v2/team/app/manifests/1"
        layer = f"/v2/team/app/blobs/{sha(b'layer of 1')}"
        first = cache.ask("GET", path).body
        assert cache.ask("GET", layer).body == b"layer of 1"
        upstream.stop()
        for ahead in (*JUMPS, None):
            if ahead is None:
                clock.set(YEAR)
                with clock.over_new_processes():
                    cache.restart()
            else:
                clock.set(ahead)
            assert main(["garbage-collect", str(cache.folder / "config.yml")]) == 0
            assert cache.ask("GET", path).body == first
            assert cache.ask("GET", layer).body == b"layer of 1"


def test_events_are_told_though_the_clock_is_set_while_they_wait(clock: MachineClock) -> None:
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.extend(e["target"]["tag"] for e in body["events"] if "tag" in e["target"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    port = free_port()
    endpoint = {"name": "ears", "url": f"http://127.0.0.1:{port}/", "threshold": 1}
    endpoint |= {"timeout": "1s", "backoff": "100ms"}
    with ExitStack() as stack:
        with clock.over_new_processes():
            more = {"notifications": {"endpoints": [endpoint]}}
            hub = stack.enter_context(registry(program=OURS, more=more))
        client = Client(hub)
        for number, ahead in enumerate((YEAR, -YEAR)):
            client.push(f"waits-{number}")
            eventually(lambda: "does not take events" in hub.log)
            clock.set(ahead)
        client.push("last")
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", port), Handler))
        thread = Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        eventually(lambda: told == ["waits-0", "waits-1", "last"])
