from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.events import Event
from sampan.registry.observability.notifications import MEDIA_TYPE, Endpoint, Notifier
from sampan.registry.observability.outbox import Outbox
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_INDEX, MEDIA_MANIFEST
from tests.own_registry import Shop, index, serving, sha
from tests.session import eventually


class Listener:
    """A server that is told; `statuses` are its next answers, then it takes everything."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.down = False
        self.url = ""

    def heard(self) -> list[tuple[str, str, str]]:
        return [
            (e["action"], e["target"]["repository"], e["target"].get("tag", ""))
            for e in self.events
        ]


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = 503 if listener.down else 200
            if listener.statuses:
                status = listener.statuses.pop(0)
            if status < 400:
                listener.headers.append(dict(self.headers))
                listener.events += body["events"]  # which is waited for
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        listener.url = f"http://127.0.0.1:{server.server_port}/events?x=1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield listener
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def telling(path: Path, *endpoints: Endpoint, references: bool = False) -> Iterator[Shop]:
    notifier = Notifier(path / "outbox.db", endpoints, references)
    notifier.start()
    try:
        with Registry.in_memory() as registry, serving(registry, emit=notifier) as shop:
            yield shop
    finally:
        notifier.close()


def test_what_happens_is_told_in_order(tmp_path: Path, listener: Listener) -> None:
    endpoint = Endpoint("x", listener.url, {"X-Key": ["a", "b"]})
    with telling(tmp_path, endpoint) as shop:
        digest = shop.push("team/app", "1")
        shop.get("/v2/team/app/manifests/1")
        shop.ask("HEAD", "/v2/team/app/manifests/1")
        layer = sha(b"layer")
        shop.get(f"/v2/team/app/blobs/{layer}")
        shop.ask("POST", f"/v2/team/new/blobs/uploads/?mount={layer}&from=team/app")
        shop.ask("DELETE", f"/v2/team/app/manifests/{digest}")
        eventually(lambda: len(listener.events) == 8)
    assert listener.heard() == [
        ("push", "team/app", ""),
        ("push", "team/app", ""),
        ("push", "team/app", "1"),
        ("pull", "team/app", "1"),
        ("pull", "team/app", ""),
        ("mount", "team/new", ""),
        ("delete", "team/app", ""),
        ("delete", "team/app", "1"),
    ]
    pushed = listener.events[2]
    target = pushed["target"]
    assert (target["digest"], target["mediaType"]) == (digest, MEDIA_MANIFEST)
    assert target["url"] == f"http://registry.test/v2/team/app/manifests/{digest}"
    assert target["size"] == target["length"] > 0
    assert pushed["request"]["method"] == "PUT"
    assert pushed["request"]["addr"] == "192.0.2.7:1234"
    mounted = listener.events[5]["target"]
    assert (mounted["fromRepository"], mounted["size"]) == ("team/app", len(b"layer"))
    assert listener.events[6]["target"] == {"digest": digest, "repository": "team/app"}
    assert listener.headers[0]["Content-Type"] == MEDIA_TYPE.format("v1")
    assert "references" not in target


def test_references_are_told_where_they_are_wanted(tmp_path: Path, listener: Listener) -> None:
    with telling(tmp_path, Endpoint("x", listener.url), references=True) as shop:
        shop.push("team/app", "1")
        eventually(lambda: len(listener.events) == 3)
    found = [item["digest"] for item in listener.events[2]["target"]["references"]]
    assert found == [sha(b"{}"), sha(b"layer")]


def test_what_is_pulled_has_references_with_all_that_is_said_of_them(
    tmp_path: Path, listener: Listener
) -> None:
    with telling(tmp_path, Endpoint("x", listener.url), references=True) as shop:
        digest = shop.push("team/app", "1")
        document = json.loads(index([(digest, 7)]))
        document["manifests"][0]["platform"] = {"os": "linux", "architecture": "amd64"}
        document["manifests"][0]["annotations"] = {"a": "b"}
        shop.put("team/app", "all", json.dumps(document).encode(), MEDIA_INDEX)
        shop.get("/v2/team/app/manifests/all")
        eventually(lambda: len(listener.events) == 5)
    assert [one["action"] for one in listener.events[3:]] == ["push", "pull"]
    for event in listener.events[3:]:
        assert event["target"]["references"] == document["manifests"]


def test_a_pull_of_an_old_manifest_is_told_without_references(
    tmp_path: Path, listener: Listener
) -> None:
    body = b'{"schemaVersion": 1, "fsLayers": []}'
    files = {
        paths.blob(Digest(sha(body))): body,
        f"{paths.revision_folder('old', Digest(sha(body)))}/link": sha(body).encode(),
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(content)
    notifier = Notifier(tmp_path / "outbox.db", [Endpoint("x", listener.url)], references=True)
    notifier.start()
    with (
        contextlib.closing(notifier),
        Registry.on_filesystem(str(tmp_path)) as registry,
        serving(registry, emit=notifier) as shop,
    ):
        assert shop.get(f"/v2/old/manifests/{sha(body)}").body == body
        eventually(lambda: len(listener.events) == 1)
    assert listener.events[0]["target"]["references"] == []


def test_the_form_can_be_called_as_docker_registry_3_does(
    tmp_path: Path, listener: Listener
) -> None:
    with telling(tmp_path, Endpoint("x", listener.url, version="v2")) as shop:
        shop.push_blob("team/app", b"x")
        eventually(lambda: len(listener.events) == 1)
    assert listener.headers[0]["Content-Type"] == MEDIA_TYPE.format("v2")


def test_what_is_not_wanted_is_not_told(tmp_path: Path, listener: Listener) -> None:
    endpoint = Endpoint(
        *("x", listener.url),
        ignored_media_types=frozenset({"application/octet-stream"}),
        ignored_actions=frozenset({"pull"}),
    )
    with telling(tmp_path, endpoint) as shop:
        shop.push("team/app", "1")
        shop.get("/v2/team/app/manifests/1")
        shop.push("team/app", "2")
        eventually(lambda: len(listener.events) == 2)
    assert listener.heard() == [("push", "team/app", "1"), ("push", "team/app", "2")]


@pytest.mark.parametrize("status", [302, 204])
def test_what_is_no_error_is_taken(tmp_path: Path, listener: Listener, status: int) -> None:
    listener.statuses = [status]
    with telling(tmp_path, Endpoint("x", listener.url)) as shop:
        shop.push_blob("team/app", b"x")
        eventually(lambda: len(listener.events) == 1)


def test_what_was_refused_is_told_again_in_order(tmp_path: Path, listener: Listener) -> None:
    listener.statuses = [500, 404, 500]
    endpoint = Endpoint("x", listener.url, threshold=2, backoff=0.01)
    with telling(tmp_path, endpoint) as shop:
        for name in ("a", "b", "c"):
            shop.push_blob(name, b"x")
        eventually(lambda: len(listener.events) == 3)
    assert [name for _, name, _ in listener.heard()] == ["a", "b", "c"]


def test_one_that_is_down_keeps_nobody_else_waiting(tmp_path: Path, listener: Listener) -> None:
    down = Endpoint("down", "http://127.0.0.1:1/", backoff=0.01)
    with telling(tmp_path, down, Endpoint("up", listener.url)) as shop:
        shop.push_blob("a", b"x")
        eventually(lambda: len(listener.events) == 1)


def test_events_outlast_a_restart(tmp_path: Path, listener: Listener) -> None:
    listener.down = True
    with telling(tmp_path, Endpoint("x", listener.url)) as shop:
        for name in ("a", "b"):
            shop.push_blob(name, b"x")
    assert listener.events == []
    listener.down = False
    with telling(tmp_path, Endpoint("x", listener.url)) as shop:
        shop.push_blob("c", b"x")
        eventually(lambda: len(listener.events) == 3)
    assert [name for _, name, _ in listener.heard()] == ["a", "b", "c"]


def test_whoever_is_too_far_behind_loses_the_oldest(tmp_path: Path) -> None:
    with contextlib.closing(Outbox(tmp_path / "outbox.db")) as outbox:
        for number in range(10):
            outbox.add(["x", "y"], b"%d" % number)
        assert outbox.trim("x", limit=4) == 6
        assert (outbox.waiting("x"), outbox.waiting("y")) == (4, 10)
        assert outbox.first("x") is not None
        assert outbox.trim("x", limit=4) == 0


@pytest.mark.parametrize(
    "url", ["", "ftp://u:secret@x", "http://", "x", "http://u:secret@x:y/", "http://x:99999/"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="no http address") as caught:
        Endpoint("x", url)
    assert "secret" not in str(caught.value)


def test_a_name_and_a_password_may_stand_in_the_address(tmp_path: Path, listener: Listener) -> None:
    url = listener.url.replace("//", "//user:p%40ss@")
    with telling(tmp_path, Endpoint("x", url)) as shop:
        shop.push("team/app", "1")
        eventually(lambda: listener.events)
    assert listener.headers[0]["Authorization"] == "Basic dXNlcjpwQHNz"


def test_what_no_request_caused_is_told_without_one(tmp_path: Path, listener: Listener) -> None:
    notifier = Notifier(tmp_path / "outbox.db", [Endpoint("x", listener.url)])
    notifier.start()
    try:
        notifier(None, Event("push", "app", "sha256:" + "1" * 64, MEDIA_MANIFEST, 7, "1"))
        eventually(lambda: len(listener.events) == 1)
    finally:
        notifier.close()
    (event,) = listener.events
    assert (event["request"], event["actor"]) == ({}, {})
    assert event["target"]["tag"] == "1"
    assert "url" not in event["target"]
