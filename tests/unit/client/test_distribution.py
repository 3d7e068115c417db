"""What lies in registries, asked through a daemon."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sampan.client.api import Client
from sampan.client.distribution import MANIFEST_BYTES
from sampan.client.endpoint import Endpoint
from sampan.errors import Internal, InvalidArgument, NotFound
from tests.fake_daemon import FakeDaemon, Replies, Reply, document, error, stream

LOGIN = base64.urlsafe_b64encode(json.dumps({"username": "me"}).encode()).decode()


def asked(tmp_path: Path, replies: Replies, call: Any) -> tuple[Any, list[Any]]:
    """Make calls, and return their result and what the daemon was asked."""
    with FakeDaemon(tmp_path, replies).serving() as daemon:
        with Client(Endpoint(daemon.host)) as client:
            result = call(client)
        return result, daemon.asked


def test_a_manifest_comes_as_it_is(tmp_path: Path) -> None:
    reply = Reply(200, [b"{ }\n"], {"Content-Type": "a/b; charset=utf-8"})
    result, (request,) = asked(
        tmp_path,
        {"GET /distribution/host:5000/x:1/manifests": reply},
        lambda client: client.distribution.manifest("host:5000/x:1", LOGIN),
    )
    assert result == ("a/b", b"{ }\n")
    assert request.login == {"username": "me"}


def test_a_manifest_has_its_bounds(tmp_path: Path) -> None:
    replies = {"GET /distribution/x/manifests": Reply(200, [b"x" * (MANIFEST_BYTES + 1)])}
    with pytest.raises(Internal, match="longer than"):
        asked(tmp_path, replies, lambda client: client.distribution.manifest("x"))


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Error response from daemon: manifest unknown"):
        asked(
            tmp_path,
            {"GET /distribution/x/manifests": error(404, "manifest unknown")},
            lambda client: client.distribution.manifest("x"),
        )


def test_a_manifest_goes_with_its_type_and_tag(tmp_path: Path) -> None:
    def call(client: Client) -> None:
        client.distribution.put_manifest("x", "a/b", b"{}", "1", LOGIN)
        client.distribution.put_manifest("x", "a/b", b"{}")

    _, (tagged, plain) = asked(tmp_path, {"PUT /distribution/x/manifests": Reply(201)}, call)
    assert (tagged.media_type, tagged.raw, tagged.query) == ("a/b", b"{}", {"tag": ["1"]})
    assert (tagged.login, plain.login, plain.query) == ({"username": "me"}, {}, {})


def test_blobs_are_mounted_from_another_repository(tmp_path: Path) -> None:
    _, (request,) = asked(
        tmp_path,
        {"POST /distribution/x/blobs": Reply(201)},
        lambda client: client.distribution.mount_blob("x", "sha256:a", "y/z"),
    )
    assert request.query == {"digest": ["sha256:a"], "from": ["y/z"]}


def test_platforms_are_asked_of_the_registry(tmp_path: Path) -> None:
    result, _ = asked(
        tmp_path,
        {"GET /distribution/x/json": document({"Platforms": []})},
        lambda client: client.distribution.inspect("x"),
    )
    assert result == {"Platforms": []}


def test_images_are_pushed_pulled_and_searched_with_a_login(tmp_path: Path) -> None:
    def call(client: Client) -> None:
        assert [*client.images.push("a/x", "1", "linux/arm64", LOGIN)] == [{"status": "pushed"}]
        assert [*client.images.pull("a/x", "", "linux/ARM64", LOGIN)] == [{"status": "pulled"}]
        assert client.images.search("x", 5, {"stars": ["3"]}, LOGIN) == [{"name": "x"}]

    _, requests = asked(
        tmp_path,
        {
            "POST /images/a/x/push": stream({"status": "pushed"}),
            "POST /images/create": stream({"status": "pulled"}),
            "GET /images/search": document([{"name": "x"}]),
        },
        call,
    )
    assert [request.login for request in requests] == [{"username": "me"}] * 3
    assert [request.query for request in requests] == [
        {"tag": ["1"], "platform": [{"architecture": "arm64", "os": "linux"}]},
        {"fromImage": ["a/x"], "platform": ["linux/arm64"]},
        {"term": ["x"], "limit": ["5"], "filters": [{"stars": {"3": True}}]},
    ]


def test_what_is_no_platform_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot parse platform specifier"):
        asked(tmp_path, {}, lambda client: client.images.push("x", platform="a/b/c/d"))


def test_a_login_is_tried(tmp_path: Path) -> None:
    result, (request,) = asked(
        tmp_path,
        {"POST /auth": document({"Status": "Login Succeeded", "IdentityToken": "t"})},
        lambda client: client.system.auth({"username": "me"}),
    )
    assert result["IdentityToken"] == "t"
    assert request.body == {"username": "me"}
