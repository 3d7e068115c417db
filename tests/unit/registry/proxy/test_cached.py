"""What a cache answers: by what its upstream says, and by what is here."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from sampan.registry.proxy import cached, placed
from sampan.spec.image import MEDIA_MANIFEST
from tests.caching import Cache, caching, upstream
from tests.lying_registry import (
    Answer,
    Lie,
    LyingRegistry,
    body,
    broken_off,
    corrupt,
    endless,
    header,
    held_until,
    longer,
    lying_registry,
    mute,
    no_answer,
    redirect,
    shorter,
    silent,
    status,
    unsized,
)
from tests.remote_images import Image, busybox, image, index, layer, push, small_layer
from tests.session import eventually

BIG = 300_000  # more than a cache holds back


def big_image() -> Image:
    return image(layer(bytes(BIG // 2) + bytes(range(256)) * (BIG // 512), compression=""))


def asked(liar: LyingRegistry, method: str, part: str) -> int:
    return sum(1 for verb, path in liar.log.lines if verb == method and part in path)


def test_a_tag_is_fetched_once_and_asked_for_each_time(liar: LyingRegistry, cache: Cache) -> None:
    shipped = busybox()
    push(liar, "library/app", "1", shipped)
    first = cache.manifest("library/app", "1")
    assert first.status == 200
    assert first.body == shipped.manifest.content
    assert first.header("docker-content-digest") == shipped.digest
    assert cache.manifest("library/app", "1").body == first.body
    assert asked(liar, "HEAD", "/manifests/1") == 2
    assert asked(liar, "GET", "/manifests/") == 1
    assert cache.figure("hits", "manifest") == 1
    assert cache.figure("misses", "manifest") == 1


def test_a_tag_that_moved_is_moved(liar: LyingRegistry, cache: Cache) -> None:
    push(liar, "app", "1", busybox())
    cache.manifest("app", "1")
    newer = busybox(small_layer("newer"))
    push(liar, "app", "1", newer)
    assert cache.manifest("app", "1").header("docker-content-digest") == newer.digest


def test_a_tag_that_is_gone_is_gone(liar: LyingRegistry, cache: Cache) -> None:
    push(liar, "app", "1", busybox())
    cache.manifest("app", "1")
    del liar.manifests["app"]["1"]
    assert cache.manifest("app", "1").status == 404
    assert cache.registry.lists.tags("app", "", None).items == []


def test_a_digest_is_asked_for_once(liar: LyingRegistry, cache: Cache) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    for _ in range(2):
        assert cache.manifest("app", shipped.digest).status == 200
    assert asked(liar, "", "") == 0
    assert len([line for line in liar.log.lines if "/manifests/" in line[1]]) == 1


def test_an_index_comes_without_what_it_names(liar: LyingRegistry, cache: Cache) -> None:
    shipped = index(busybox(architecture="amd64"), busybox(small_layer("x"), architecture="arm64"))
    push(liar, "app", "1", shipped)
    assert cache.manifest("app", "1").status == 200
    child = shipped.images[1]
    assert cache.manifest("app", child.digest).status == 200


@pytest.mark.parametrize("trouble", [no_answer, mute, status(500), status(429), status(401)])
def test_what_is_here_is_served_while_the_upstream_is_away(
    liar: LyingRegistry, cache: Cache, trouble: Lie, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    cache.manifest("app", "1")
    for blob in shipped.blobs:
        cache.blob("app", blob.digest)
    liar.lie("", "", trouble)
    if trouble is mute:
        monkeypatch.setattr(placed, "PATIENCE", 0.3)
    assert cache.manifest("app", "1").status == 200
    assert cache.manifest("app", shipped.digest).status == 200
    assert cache.get("/v2/app/tags/list").json["tags"] == ["1"]
    for blob in shipped.blobs:
        assert cache.blob("app", blob.digest).body == blob.content
    assert cache.figure("stale", "manifest") == 1


def test_an_upstream_that_failed_is_left_alone_for_a_while(
    liar: LyingRegistry, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "DOWN_SECONDS", 1000.0)
    push(liar, "app", "1", busybox())
    cache.manifest("app", "1")
    liar.lie("HEAD", "/manifests/", status(500))
    cache.manifest("app", "1")
    before = len(liar.log.lines)
    assert cache.manifest("app", "1").status == 200
    assert len(liar.log.lines) == before


@pytest.mark.parametrize(
    ("trouble", "code", "expected"),
    [
        (status(500), "UNAVAILABLE", 503),
        (no_answer, "UNAVAILABLE", 503),
        (status(404, "MANIFEST_UNKNOWN"), "MANIFEST_UNKNOWN", 404),
        (status(403, "DENIED"), "MANIFEST_UNKNOWN", 404),
        (status(401, "UNAUTHORIZED"), "DENIED", 403),
    ],
)
def test_what_is_not_here_is_refused_for_a_reason(
    liar: LyingRegistry, cache: Cache, trouble: Lie, code: str, expected: int
) -> None:
    liar.lie("", "/manifests/", trouble)
    answer = cache.manifest("app", "1")
    assert (answer.status, answer.code) == (expected, code)


@pytest.mark.parametrize(
    "lie",
    [
        corrupt,
        body(b"{}"),
        body(b'{"schemaVersion": 2, "layers": "no"}'),
        body(b"x" * (5 << 20)),
        endless,
        broken_off,
        shorter,
    ],
)
def test_a_wrong_manifest_is_never_kept(liar: LyingRegistry, cache: Cache, lie: Lie) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    liar.lie("GET", "/manifests/", lie)
    assert cache.manifest("app", "1").status == 503
    liar.be_honest()
    assert cache.manifest("app", "1").body == shipped.manifest.content


@pytest.mark.parametrize("lie", [corrupt, body(b"{}"), endless])
def test_a_lie_about_a_tag_leaves_what_is_here(liar: LyingRegistry, cache: Cache, lie: Lie) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    cache.manifest("app", "1")
    push(liar, "app", "1", busybox(small_layer("newer")))
    liar.lie("GET", "/manifests/", lie)
    assert cache.manifest("app", "1").body == shipped.manifest.content


def test_a_blob_is_fetched_once(liar: LyingRegistry, cache: Cache) -> None:
    shipped = big_image()
    push(liar, "app", "1", shipped)
    blob = shipped.layers[0]
    assert cache.blob("app", blob.digest).body == blob.content
    answer = cache.blob("app", blob.digest, range="bytes=10-19")
    assert (answer.status, answer.body) == (206, blob.content[10:20])
    assert asked(liar, "GET", blob.digest) == 1
    assert cache.figure("misses", "blob") == 1
    assert cache.figure("hits", "blob") == 1
    assert cache.figure("pulled_bytes", "blob") == len(blob.content)
    assert cache.figure("pushed_bytes", "blob") == len(blob.content) + 10


def test_head_of_a_blob_fetches_nothing(liar: LyingRegistry, cache: Cache) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    blob = shipped.layers[0]
    answer = cache.ask("HEAD", f"/v2/app/blobs/{blob.digest}")
    assert (answer.status, answer.header("content-length")) == (200, str(len(blob.content)))
    assert asked(liar, "GET", "/blobs/") == 0
    missing = "sha256:" + "0" * 64
    assert cache.ask("HEAD", f"/v2/app/blobs/{missing}").status == 404


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lie", [corrupt, longer, shorter, endless, status(500), silent, no_answer])
def test_a_wrong_blob_is_never_kept_nor_whole(liar: LyingRegistry, cache: Cache, lie: Lie) -> None:
    shipped = big_image()
    push(liar, "app", "1", shipped)
    blob = shipped.layers[0]
    cache.manifest("app", "1")
    liar.lie("GET", blob.digest, lie)
    asking = cache.begin_to_ask("GET", f"/v2/app/blobs/{blob.digest}")
    try:
        assert asking.result().status == 503
    except Exception:
        assert len(asking.answer.body) < len(blob.content)
    liar.be_honest()
    assert cache.blob("app", blob.digest).body == blob.content
    assert list(cache.registry.driver.list("docker/registry/v2/repositories/app/_uploads")) == []


@pytest.mark.parametrize("lie", [unsized, broken_off])
def test_a_blob_comes_whole_over_bad_connections(
    liar: LyingRegistry, cache: Cache, lie: Lie
) -> None:
    shipped = big_image()
    push(liar, "app", "1", shipped)
    blob = shipped.layers[0]
    cache.manifest("app", "1")
    liar.lie("GET", blob.digest, lie, times=1)
    assert cache.blob("app", blob.digest).body == blob.content


def test_what_another_repository_has_is_not_fetched_again(
    liar: LyingRegistry, cache: Cache
) -> None:
    shipped = busybox()
    for name in ("one", "two"):
        push(liar, name, "1", shipped)
        cache.manifest(name, "1")
        assert cache.blob(name, shipped.layers[0].digest).status == 200
    assert asked(liar, "GET", shipped.layers[0].digest) == 1


def test_a_blob_is_of_a_repository_only_if_the_upstream_says_so(
    liar: LyingRegistry, cache: Cache
) -> None:
    shipped = busybox()
    push(liar, "one", "1", shipped)
    cache.blob("one", shipped.layers[0].digest)
    assert cache.blob("two", shipped.layers[0].digest).status == 404


def test_what_another_upstream_keeps_for_its_users_comes_again(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    """Who only knows the digest of a private layer does not get it by way of another registry."""
    from sampan.registry.proxy.logins import Login
    from tests.own_registry import sha

    secret = busybox(small_layer("secret"))
    with lying_registry() as hostile:
        private = upstream(liar, "private", prefix="private/", login=Login("me", "mine"))
        other = upstream(hostile, "hostile", prefix="hostile/")
        with caching(private, other, access=_Narrow()) as cache:
            push(liar, "app", "1", secret)
            digest = secret.layers[-1].digest
            assert cache.blob("private/app", digest).status == 200
            hostile.blobs["app"] = {digest: b"x" * len(secret.layers[-1].content)}
            answer = cache.blob("hostile/app", digest)
            assert answer.status == 503
            assert sha(answer.body) != digest


class _Narrow:
    """A right to what is asked for, and to nothing else."""

    def blocks(self, request: object) -> bool:
        return False

    user = ""

    def authorize(self, *_: object) -> _Narrow:
        return self

    def classes(self, repository: str) -> tuple[str, ...]:
        return ()

    def allows(self, scope: object) -> bool:
        return False


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_nothing_is_pushed_to_what_is_cached(cache: Cache, method: str) -> None:
    path = {
        "PUT": "/v2/app/manifests/1",
        "POST": "/v2/app/blobs/uploads/",
        "PATCH": "/v2/app/blobs/uploads/11111111-1111-4111-8111-111111111111",
    }[method]
    answer = cache.ask(method, path, b"{}")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert "push to it there" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("trouble", "answered"), [(no_answer, 503), (status(500), 503), (status(429), 429)]
)
def test_tags_of_what_is_not_here_are_not_known_while_the_upstream_is_away(
    liar: LyingRegistry, cache: Cache, trouble: Lie, answered: int
) -> None:
    push(liar, "app", "1", busybox())
    liar.lie("", "", trouble)
    answer = cache.get("/v2/app/tags/list")
    assert answer.status == answered
    assert liar.url.partition("//")[2] in answer.json["errors"][0]["message"]


def test_tags_are_those_of_the_upstream_in_pages(liar: LyingRegistry, cache: Cache) -> None:
    for tag in ("b", "a", "c"):
        push(liar, "app", tag, busybox())
    answer = cache.get("/v2/app/tags/list?n=2")
    assert answer.json["tags"] == ["a", "b"]
    assert "last=b" in answer.header("link")
    assert cache.get("/v2/app/tags/list?n=2&last=b").json["tags"] == ["c"]


@pytest.mark.parametrize("what", ["tags/list", "referrers/sha256:" + "1" * 64])
def test_a_list_comes_once_for_all_who_want_it_at_the_same_time(
    liar: LyingRegistry, cache: Cache, what: str
) -> None:
    push(liar, "app", "1", busybox())
    go = threading.Event()
    liar.lie("GET", f"/{what}", held_until(go))
    asked = [cache.begin_to_ask("GET", f"/v2/app/{what}") for _ in range(5)]
    eventually(lambda: liar.log.count("GET", what))
    for _ in range(20):  # turns, in which all have begun to wait
        cache.run(asyncio.sleep(0))
    go.set()
    assert {asking.result().status for asking in asked} == {200}
    assert liar.log.count("GET", what) == 1


def test_a_redirect_leads_only_to_the_internet(liar: LyingRegistry, cache: Cache) -> None:
    with lying_registry(host="127.0.0.1") as inner:
        shipped = busybox()
        push(liar, "app", "1", shipped)
        push(inner, "app", "1", shipped)
        blob = shipped.layers[0]
        inside = inner.url.replace("127.0.0.1", "localhost")
        liar.lie("GET", blob.digest, redirect(f"{inside}/v2/app/blobs/{blob.digest}"))
        liar.lie("HEAD", "/manifests/1", redirect(f"{inside}/v2/app/manifests/1"))
        answer = cache.blob("app", blob.digest)
        assert answer.status == 503
        assert "must not be asked" in answer.json["errors"][0]["message"]
        assert cache.manifest("app", "1").status == 503
        assert inner.log.lines == []


def test_a_digest_in_a_header_that_is_wrong_is_found_out(liar: LyingRegistry, cache: Cache) -> None:
    push(liar, "app", "1", busybox())
    other = "sha256:" + "1" * 64
    liar.lie("HEAD", "/manifests/1", header(Docker_Content_Digest=other))
    assert cache.manifest("app", "1").status == 404


def test_what_is_attached_is_what_the_upstream_says(liar: LyingRegistry, cache: Cache) -> None:
    subject, one, two = ("sha256:" + digit * 64 for digit in "123")

    def listed(*items: tuple[str, str]) -> bytes:
        found = [
            {"mediaType": MEDIA_MANIFEST, "digest": digest, "size": 7, "artifactType": kind}
            for digest, kind in items
        ]
        return json.dumps({"schemaVersion": 2, "manifests": found}).encode()

    liar.lie("GET", f"/referrers/{subject}?page=2", lambda *_: Answer(body=listed((one, "a/a"))))
    more = {"Link": f'</v2/app/referrers/{subject}?page=2>; rel="next"'}
    liar.lie("GET", f"/referrers/{subject}", lambda *_: Answer(200, more, listed((two, "b/b"))))
    answer = cache.get(f"/v2/app/referrers/{subject}")
    assert [item["digest"] for item in answer.json["manifests"]] == [one, two]
    answer = cache.get(f"/v2/app/referrers/{subject}?artifactType=b/b")
    assert [item["digest"] for item in answer.json["manifests"]] == [two]
    assert answer.json["manifests"][0]["artifactType"] == "b/b"
    liar.be_honest()
    liar.lie("GET", "/referrers/", status(404, ""))
    assert cache.get(f"/v2/app/referrers/{subject}").json["manifests"] == []
    tag = subject.replace(":", "-")
    liar.lie("GET", f"/manifests/{tag}", lambda *_: Answer(body=listed((one, "a/a"))))
    answer = cache.get(f"/v2/app/referrers/{subject}")
    assert [item["digest"] for item in answer.json["manifests"]] == [one]
    liar.be_honest()
    liar.lie("", "", no_answer)
    assert cache.get(f"/v2/app/referrers/{subject}").status == 200


def test_what_stands_in_queries_is_not_told(liar: LyingRegistry, cache: Cache) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    blob = shipped.layers[0]
    liar.lie("GET", blob.digest, redirect(f"{liar.url}/away?signature=secret&user=me"))
    liar.lie("GET", "/away", no_answer)
    answer = cache.blob("app", blob.digest)
    assert answer.status == 503
    assert "/away?…" in answer.json["errors"][0]["message"]
    assert b"secret" not in answer.body
