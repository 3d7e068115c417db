"""Manifests, tags and mirrors of registries that are honest, odd or lying."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.distribution.credentials import Credentials
from sampan.distribution.manifests import MANIFEST_BYTES
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.errors import NotFound, SampanError, Unauthorized, Unsupported, Upstream
from sampan.spec.digest import Digest
from sampan.spec.reference import Reference
from tests import lying_registry as lies
from tests.asking import LIMITS, ask, config, descriptor, fetched, with_repository
from tests.lying_registry import Answer, Handler, LyingRegistry
from tests.remote_images import Blob, image, index, push, small_layer

IMAGE = image(small_layer("a"))
INDEX = index(IMAGE)
NOWHERE = Digest("sha256:" + "0" * 64)


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        push(registry, "app", "1", IMAGE)
        push(registry, "app", "all", INDEX)
        registry.log.clear()
        yield registry


def manifest(liar: LyingRegistry, reference: str = "1", **settings: Any) -> Any:
    return with_repository(f"{liar.address}/app", lambda r: r.manifest(reference), **settings)


def refused(liar: LyingRegistry, reference: str = "1", **settings: Any) -> SampanError:
    with pytest.raises(SampanError) as caught:
        manifest(liar, reference, **settings)
    return caught.value


# --- manifests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "what"), [("1", IMAGE), ("all", INDEX), (IMAGE.digest, IMAGE)]
)
def test_a_manifest_is_fetched_in_one_request(
    liar: LyingRegistry, reference: str, what: Any
) -> None:
    found = manifest(liar, reference)
    assert found.content == what.manifest.content
    assert found.descriptor == descriptor(what.manifest)
    assert liar.log.count() <= 2  # the first contact tries TLS


def test_a_manifest_is_found_by_sha512(liar: LyingRegistry) -> None:
    what = Blob(IMAGE.manifest.media_type, IMAGE.manifest.content, "sha512")
    liar.manifests["app"][what.digest] = (what.media_type, what.content)
    assert manifest(liar, what.digest).descriptor.digest == what.digest


@pytest.mark.parametrize("reference", ["none", NOWHERE])
def test_a_missing_manifest_is_told_as_docker_does(liar: LyingRegistry, reference: str) -> None:
    error = refused(liar, reference)
    mark = "@" if ":" in reference else ":"
    assert isinstance(error, NotFound)
    assert str(error) == (
        f"manifest for {liar.address}/app{mark}{reference} not found:"
        " manifest unknown: manifest unknown"
    )


@pytest.mark.parametrize(
    ("lie", "kind", "sentence"),
    [
        (lies.status(403, "DENIED", "go away"), NotFound,
         "pull access denied for ADDRESS/app, repository does not exist or may require"
         " 'docker login': denied: go away"),
        (lies.status(404, "NAME_UNKNOWN", "repository name not known to registry"), NotFound,
         "repository ADDRESS/app not found: name unknown: repository name not known to registry"),
        (lies.status(401, "UNAUTHORIZED", "authentication required"), Unauthorized,
         'Get "http://ADDRESS/v2/": unauthorized: authentication required'),
        (lies.status(500), Upstream,
         "received unexpected HTTP status: 500 Internal Server Error"),
        (lies.status(429, "TOOMANYREQUESTS", "You have reached your pull rate limit"), Upstream,
         "toomanyrequests: You have reached your pull rate limit"),
        (lies.circle, Upstream,
         'Get "http://ADDRESS/v2/app/manifests/1": stopped after 10 redirects'),
        (lies.body(b"<html>"), Upstream, "manifest verification failed for digest "),
        (lies.media_type("text/html"), Upstream, "unsupported manifest media type: text/html"),
        (lies.corrupt, Upstream, "manifest verification failed for digest "),
        (lies.header(Docker_Content_Digest=NOWHERE), Upstream,
         f"manifest verification failed for digest {NOWHERE}"),
        (lies.body(bytes(MANIFEST_BYTES + 1)), Upstream, "larger than 4194304 bytes"),
        (lies.endless, Upstream, "larger than 4194304 bytes"),
        (lies.broken_off, Upstream, "unexpected EOF"),
        (lies.no_answer, Upstream, "EOF"),
        (lies.media_type("application/vnd.docker.distribution.manifest.v1+prettyjws"),
         Unsupported, "schema 1 support has been removed"),
        (lambda handler, answer: Answer(401, {}, b"<html>\x1b[31m"), Unauthorized,
         "unauthorized: authentication required"),
        (lambda handler, answer: Answer(418, {}, b"\x1b[31mteapot\x00"), Upstream,
         'error parsing HTTP 418 response body: "[31mteapot"'),
        (lambda handler, answer: Answer(404, {}, b"x" * 100_000), NotFound,
         "error parsing HTTP 404 response body"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_clear_error(
    liar: LyingRegistry, lie: lies.Lie, kind: type[SampanError], sentence: str
) -> None:
    liar.lie("GET", "manifests", lie)
    error = refused(liar)
    assert type(error) is kind
    assert sentence.replace("ADDRESS", liar.address) in str(error)
    assert len(str(error)) < 3000
    assert str(error).isprintable()


def test_several_errors_are_listed(liar: LyingRegistry) -> None:
    errors = [{"code": "DENIED", "message": "no"}, {"code": "UNKNOWN", "message": None}]
    body = json.dumps({"errors": errors}).encode()
    liar.lie("GET", "", lambda handler, answer: Answer(403, {}, body))
    assert "errors:\ndenied: no\nunknown: unknown error\n" in str(refused(liar))


@pytest.mark.parametrize("lie", [lies.mute, lies.silent])
def test_a_silent_registry_is_given_up(liar: LyingRegistry, lie: lies.Lie) -> None:
    liar.lie("GET", "manifests", lie)
    reference = f"{liar.address}/app"
    limits = type(LIMITS)(answer_seconds=0.2, document_seconds=0.2)

    async def work(repository: Repository) -> None:
        with pytest.raises(Upstream, match="timeout"):
            await repository.manifest("1")

    began = time.monotonic()

    async def main() -> None:
        async with Registries(config(limits=limits)) as registries:
            await work(registries.repository(Reference.parse(reference)))

    asyncio.run(main())
    assert time.monotonic() - began < 20  # the default is a minute


def test_what_may_pass_is_waited_for(liar: LyingRegistry) -> None:
    liar.lie("GET", "manifests", lies.status(503, Retry_After="0"), times=2)
    liar.lie("GET", "manifests", lies.status(429), times=1)
    liar.lie("GET", "manifests", lies.no_answer, times=1)
    assert manifest(liar).descriptor.digest == IMAGE.digest


def test_nobody_waits_for_hours(liar: LyingRegistry) -> None:
    liar.lie("GET", "manifests", lies.status(429, "TOOMANYREQUESTS", "later", Retry_After="3600"))
    assert str(refused(liar)) == "toomanyrequests: later"
    assert liar.log.count("GET", "manifests") == 1


# --- head, blobs, tags -----------------------------------------------------------------------


def test_head_tells_what_a_tag_stands_for(liar: LyingRegistry) -> None:
    async def work(repository: Repository) -> list[Any]:
        return [await repository.head(reference) for reference in ("1", INDEX.digest, "none")]

    found = with_repository(f"{liar.address}/app", work)
    assert found == [descriptor(IMAGE.manifest), descriptor(INDEX.manifest), None]
    assert liar.log.count("GET") == 0


def test_head_asks_again_where_the_registry_does_not_tell(liar: LyingRegistry) -> None:
    liar.lie("HEAD", "", lies.header(Docker_Content_Digest=""), times=1)
    liar.lie("HEAD", "", lies.status(405), times=1)

    async def work(repository: Repository) -> list[Any]:
        return [await repository.head("1") for _ in range(3)]

    assert with_repository(f"{liar.address}/app", work) == [descriptor(IMAGE.manifest)] * 3
    assert liar.log.count("GET") == 2


def test_a_blob_has_a_size_or_is_not_there(liar: LyingRegistry) -> None:
    async def work(repository: Repository) -> list[Any]:
        return [await repository.has_blob(Digest(d)) for d in (IMAGE.config.digest, NOWHERE)]

    assert with_repository(f"{liar.address}/app", work) == [len(IMAGE.config.content), None]


def pages(count: int, last: bool = True) -> lies.Lie:
    def lie(handler: Handler, answer: Answer) -> Answer:
        page = int(handler.query.get("page", 0))
        following = f'</v2/app/tags/list?page={page + 1}>; rel="next"'
        headers = {} if last and page == count - 1 else {"Link": following}
        return Answer(200, headers, json.dumps({"tags": [f"{page}-{n}" for n in (1, 2)]}).encode())

    return lie


def test_tags_come_in_pages(liar: LyingRegistry) -> None:
    assert with_repository(f"{liar.address}/app", lambda r: r.tags()) == ["1", "all"]
    liar.lie("GET", "tags", pages(3))
    found = with_repository(f"{liar.address}/app", lambda r: r.tags())
    assert found == ["0-1", "0-2", "1-1", "1-2", "2-1", "2-2"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"tags": 5}', b'{"tags": ["' + b"x" * 9_000_000 + b'"]}']
)
def test_a_list_of_tags_that_is_none_is_told(liar: LyingRegistry, body: bytes) -> None:
    liar.lie("GET", "tags", lies.body(body))
    with pytest.raises(Upstream):
        with_repository(f"{liar.address}/app", lambda r: r.tags())


def test_a_repository_may_have_no_tags(liar: LyingRegistry) -> None:
    liar.lie("GET", "tags", lies.body(b'{"tags": null}'))
    assert with_repository(f"{liar.address}/app", lambda r: r.tags()) == []


# --- first contact ---------------------------------------------------------------------------


def test_a_registry_that_is_not_there_is_told_as_docker_does() -> None:
    with pytest.raises(Upstream) as caught:
        with_repository("127.0.0.1:1/x", lambda r: r.manifest("1"))
    told = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert str(caught.value) == told


def test_a_secure_registry_is_never_asked_without_tls() -> None:
    with pytest.raises(Upstream) as caught:
        with_repository("no-such-host.invalid/x", lambda r: r.manifest("1"))
    assert str(caught.value).startswith('Get "https://no-such-host.invalid/v2/": dial tcp: lookup')


def test_an_insecure_registry_may_have_any_certificate(tmp_path: Path) -> None:
    with lies.lying_registry(tls=True) as liar:
        push(liar, "app", "1", IMAGE)
        assert manifest(liar).descriptor.digest == IMAGE.digest


def test_a_registry_that_learns_tls_is_asked_with_it() -> None:
    with lies.lying_registry(tls=True) as secure:
        push(secure, "app", "1", IMAGE)

        async def work(registries: Registries) -> None:
            repository = registries.repository(Reference.parse(f"{secure.address}/app"))
            registries._memory.schemes[secure.address] = "http"  # as it was a moment ago
            with pytest.raises(Upstream):
                await repository.manifest("1")
            assert (await repository.manifest("1")).descriptor.digest == IMAGE.digest

        ask(work)


# --- mirrors ---------------------------------------------------------------------------------


def mirrored(liar: LyingRegistry, *mirrors: str) -> dict[str, Any]:
    return {"mirrors": {liar.address: mirrors}}


def test_mirrors_are_asked_first(liar: LyingRegistry, tmp_path: Path) -> None:
    with lies.lying_registry() as mirror:
        push(mirror, "cache/app", "1", IMAGE)
        mirror.log.clear()

        async def work(repository: Repository) -> bytes:
            assert (await repository.manifest("1")).descriptor.digest == IMAGE.digest
            assert await repository.has_blob(Digest(IMAGE.config.digest))
            return await fetched(repository, descriptor(IMAGE.config), tmp_path)

        settings = mirrored(liar, f"{mirror.url}/cache/")
        credentials = Credentials("u", "p")
        found = with_repository(f"{liar.address}/app", work, credentials, **settings)
        assert found == IMAGE.config.content
        assert (mirror.log.count(), liar.log.count()) == (3, 0)


@pytest.mark.parametrize(
    "lie",
    [lies.status(404, "MANIFEST_UNKNOWN", "x"), lies.status(401), lies.corrupt, lies.no_answer,
     lies.status(500), lies.circle, lies.body(b"<html>")],
)  # fmt: skip
def test_a_mirror_that_fails_is_passed_over(liar: LyingRegistry, lie: lies.Lie) -> None:
    with lies.lying_registry() as mirror:
        push(mirror, "app", "1", IMAGE)
        mirror.lie("GET", "", lie)
        settings = mirrored(liar, "http://127.0.0.1:1", mirror.url)
        assert manifest(liar, **settings).descriptor.digest == IMAGE.digest
        assert liar.log.count("GET", "manifests") == 1


def test_a_blob_that_a_mirror_breaks_off_goes_on_at_the_registry(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    blob = Blob("x/y", os.urandom(1_000_000))
    liar.blobs["app"][blob.digest] = blob.content
    ranges = []

    def note(handler: Handler, answer: Answer) -> Answer:
        ranges.append(handler.headers.get("Range"))
        return answer

    liar.lie("GET", "blobs", note)
    with lies.lying_registry() as mirror:
        mirror.blobs["app"] = {blob.digest: blob.content}
        mirror.lie("GET", "blobs", lies.broken_off, times=1)
        mirror.lie("GET", "blobs", lies.no_answer)
        found = with_repository(
            f"{liar.address}/app",
            lambda r: fetched(r, descriptor(blob), tmp_path),
            **mirrored(liar, mirror.url),
        )
    assert found == blob.content
    assert ranges == ["bytes=500000-"]


def test_a_mirror_that_lies_about_a_size_is_passed_over(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    with lies.lying_registry() as mirror:
        mirror.blobs["app"] = {IMAGE.config.digest: b"short"}
        found = with_repository(
            f"{liar.address}/app",
            lambda r: fetched(r, descriptor(IMAGE.config), tmp_path),
            **mirrored(liar, mirror.url),
        )
    assert found == IMAGE.config.content


def test_pushes_leave_mirrors_out(liar: LyingRegistry) -> None:
    with lies.lying_registry() as mirror:
        settings = mirrored(liar, mirror.url)
        assert with_repository(f"{liar.address}/app", lambda r: r.head("1"), push=True, **settings)
        assert mirror.log.count() == 0
