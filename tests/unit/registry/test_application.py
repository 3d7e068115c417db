from __future__ import annotations

import errno
import sqlite3

import pytest

from sampan.registry.application import ROUTES, Application
from sampan.registry.errors import KINDS, RegistryError
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.own_registry import Shop, serving, sha

NAMES = ["a", "team/app", "a.b_c__d-e--f/0", "blobs/uploads", "manifests", "x/tags/list/y"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_the_grammar_is_a_repository(shop: Shop, name: str) -> None:
    digest = shop.push(name, "1")
    assert shop.tags(name) == ["1"]
    assert shop.get(f"/v2/{name}/manifests/{digest}").status == 200
    assert shop.get(f"/v2/{name}/blobs/{sha(b'layer')}").status == 200
    assert shop.get("/v2/_catalog").json["repositories"] == [name]


@pytest.mark.parametrize(
    "name",
    ["A", "a//b", "-a", "a-", "a/../b", "../etc", "_layers", "a/_uploads", "a___b", "ä", "a b"]
    + ["a" * 256, "a/", "%2e%2e"],
)
def test_what_is_no_name_is_refused(shop: Shop, name: str) -> None:
    for method, place in (("GET", "tags/list"), ("POST", "blobs/uploads/"), ("GET", "manifests/1")):
        answer = shop.ask(method, f"/v2/{name}/{place}")
        assert (answer.status, answer.code) == (400, "NAME_INVALID")


@pytest.mark.parametrize("path", ["/v1/users", "/v2/a", "/v2/a/blobs", "/v3/", "/v2//", "/x"])
def test_there_is_nothing_elsewhere(shop: Shop, path: str) -> None:
    assert shop.get(path).status == 404


def test_the_root_is_empty(shop: Shop) -> None:
    answer = shop.get("/")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("cache-control") == "no-cache"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/a/tags/list", "GET, HEAD"),
        ("PATCH", "/v2/a/manifests/1", "DELETE, GET, HEAD, PUT"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("POST", f"/v2/a/blobs/{sha(b'')}", "DELETE, GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_those_that_there_are(
    shop: Shop, method: str, path: str, allowed: str
) -> None:
    answer = shop.ask(method, path)
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.header("allow") == allowed
    asked = shop.ask("OPTIONS", path)
    assert (asked.status, asked.header("allow"), asked.body) == (200, allowed, b"")


def test_a_read_only_registry_takes_nothing() -> None:
    with Registry.in_memory() as registry:
        with serving(registry) as shop:
            digest = shop.push("a", "1")
            place = shop.begin("a")
        with serving(registry, Service(read_only=True, deletes=True)) as shop:
            for method, path in (
                ("POST", "/v2/a/blobs/uploads/"),
                ("PATCH", place),
                ("PUT", place),
                ("DELETE", place),
                ("PUT", "/v2/a/manifests/2"),
                ("DELETE", f"/v2/a/manifests/{digest}"),
                ("DELETE", f"/v2/a/blobs/{sha(b'layer')}"),
            ):
                answer = shop.ask(method, path)
                assert (answer.status, answer.code) == (405, "UNSUPPORTED")
                assert set(answer.header("allow").split(", ")) <= {"GET", "HEAD", ""}
            assert shop.get("/v2/a/manifests/1").status == 200


def test_all_is_below_the_prefix() -> None:
    with Registry.in_memory() as registry, serving(registry, Service(prefix="/my/hub/")) as shop:
        assert shop.get("/my/hub/v2/").status == 200
        assert shop.get("/my/hub/").status == 200
        assert shop.get("/v2/").status == 404
        answer = shop.ask("POST", "/my/hub/v2/a/blobs/uploads/")
        assert answer.header("location").startswith("http://registry.test/my/hub/v2/a/blobs/")


def test_configured_headers_are_in_every_answer() -> None:
    service = Service(
        headers={
            "X-Content-Type-Options": ["nosniff"],
            "X-Two": ["a", "b"],
            "cache-control": ["no-store"],
        }
    )
    with Registry.in_memory() as registry, serving(registry, service) as shop:
        for path in ("/v2/", "/nowhere", "/v2/A/tags/list"):
            answer = shop.get(path)
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("x-two") == "a, b"
            assert answer.header("cache-control") == "no-store"
            assert answer.header("docker-distribution-api-version") == "registry/2.0"
        digest = shop.push_blob("team/app", b"x")
        # What an answer says itself is not contradicted.
        answer = shop.get(f"/v2/team/app/blobs/{digest}")
        assert answer.header("cache-control") == "max-age=31536000"


def test_no_browser_finds_a_type_for_what_was_pushed(shop: Shop) -> None:
    digest = shop.push_blob("team/app", b"<script>alert(1)</script>")
    answer = shop.get(f"/v2/team/app/blobs/{digest}")
    assert answer.header("content-type") == "application/octet-stream"
    assert answer.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "UNAVAILABLE"),
        (OSError(errno.EIO, "Input/output error"), 503, "UNAVAILABLE"),
        (sqlite3.OperationalError("database or disk is full"), 503, "UNAVAILABLE"),
        (RuntimeError("secret"), 500, "UNKNOWN"),
    ],
)
def test_a_failure_inside_is_an_answer(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    digest = shop.push_blob("a", b"x")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shop.registry.blobs, "open", fail)
    answer = shop.get(f"/v2/a/blobs/{digest}")
    assert (answer.status, answer.code) == (status, code)
    assert b"secret" not in answer.body


def test_a_sick_registry_says_so_to_everybody() -> None:
    with Registry.in_memory() as registry:
        application = Application(registry, sick=lambda: {"storagedriver": "gone"})
        answer = Shop(application).get("/v2/")
        application.close()
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert answer.json["errors"][0]["detail"] == {"storagedriver": "gone"}


def test_every_error_has_a_status_and_a_sentence() -> None:
    for code, kind in KINDS.items():
        error = RegistryError(code)
        assert 400 <= error.status < 600
        assert kind.message in error.body.decode()


def test_every_change_can_be_closed() -> None:
    changing = {"PUT", "POST", "PATCH", "DELETE"}
    for route in ROUTES:
        assert route.writes == bool(changing & route.verbs.keys())


def test_a_disk_that_fills_during_a_push_keeps_what_was_there(
    disk: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = disk.push("a", "1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sampan.linux.aio.fsync", full)
        place = disk.begin("a")
        assert disk.ask("PUT", f"{place}?digest={sha(b'new')}", b"new").status == 507
        assert disk.get(f"/v2/a/blobs/{sha(b'new')}").status == 404
        body = disk.get("/v2/a/manifests/1").body
        assert disk.put("a", "2", body).status == 507
    assert disk.tags("a") == ["1"]
    assert disk.put("a", "2", body).status == 201
    assert disk.get("/v2/a/manifests/2").header("docker-content-digest") == digest
