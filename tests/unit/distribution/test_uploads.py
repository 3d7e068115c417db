"""Blobs for registries with tastes of their own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sampan.distribution.repository import Repository
from sampan.distribution.uploads import REPLAY_BYTES, Replay
from sampan.errors import Forbidden, InvalidArgument, Unauthorized, Upstream
from sampan.http.limits import ClientLimits
from sampan.spec.digest import digest_of
from tests import lying_registry as lies
from tests.asking import descriptor, reader, with_repository
from tests.lying_registry import Answer, Handler, LyingRegistry
from tests.remote_images import OCTETS, Blob, image, small_layer

BLOB = Blob(OCTETS, os.urandom(3_000_000))
LARGE = Blob(OCTETS, os.urandom(REPLAY_BYTES + 3_000_000))


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


def known(liar: LyingRegistry, blob: Blob = BLOB, content: bytes | None = None) -> None:
    told: list[int] = []
    with_repository(
        f"{liar.address}/app",
        lambda repository: repository.upload_known(
            descriptor(blob), reader(blob.content if content is None else content), told.append
        ),
        push=True,
    )
    assert liar.blobs["app"][blob.digest] == blob.content
    assert sum(told) == len(blob.content)


def unknown(liar: LyingRegistry, blob: Blob = BLOB) -> None:
    digest, size = with_repository(
        f"{liar.address}/app",
        lambda repository: repository.upload(reader(blob.content), lambda _: None),
        push=True,
    )
    assert (digest, size) == (blob.digest, len(blob.content))
    assert liar.blobs["app"][blob.digest] == blob.content


def methods(liar: LyingRegistry) -> list[str]:
    return [method for method, _ in liar.log.lines]


def test_a_known_blob_goes_in_one_request(liar: LyingRegistry) -> None:
    known(liar)
    assert methods(liar) == ["POST", "PUT"] or methods(liar) == ["POST", "POST", "PUT"]


def test_a_blob_of_unknown_digest_goes_in_a_stream(liar: LyingRegistry) -> None:
    unknown(liar)
    assert methods(liar)[-2:] == ["PATCH", "PUT"]


@pytest.mark.parametrize("blob", [Blob(OCTETS, b""), Blob(OCTETS, b"x", "sha512"), LARGE])
def test_blobs_of_every_kind_go(liar: LyingRegistry, blob: Blob) -> None:
    known(liar, blob)
    if blob.algorithm == "sha256":
        unknown(liar, blob)


@pytest.mark.parametrize("status", [400, 404, 405, 411, 413, 415, 501])
def test_a_registry_that_wants_no_single_put_gets_a_stream(
    liar: LyingRegistry, status: int
) -> None:
    liar.lie("PUT", "/uploads/", lies.status(status), times=1)
    known(liar)
    assert methods(liar).count("PATCH") == 1


def only_chunks(handler: Handler, answer: Answer) -> Answer:
    if handler.headers.get("Transfer-Encoding") or not handler.headers.get("Content-Range"):
        return lies.error(411, "SIZE_INVALID_", "length required")
    return answer


def test_a_registry_that_wants_no_stream_gets_chunks(liar: LyingRegistry) -> None:
    liar.lie("PATCH", "", only_chunks)
    unknown(liar)
    assert methods(liar).count("PATCH") == 2
    assert "DELETE" in methods(liar)


def test_chunks_have_the_size_that_the_registry_asks_for(
    liar: LyingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sampan.distribution.uploads.CHUNK_BYTES", 1 << 20)
    ranges = []

    def note(handler: Handler, answer: Answer) -> Answer:
        ranges.append(handler.headers.get("Content-Range"))
        return only_chunks(handler, answer)

    liar.lie("PATCH", "", note)
    liar.lie("POST", "", lies.header(OCI_Chunk_Min_Length=str(2 << 20)))
    unknown(liar)
    assert ranges[1:] == [f"0-{(2 << 20) - 1}", f"{2 << 20}-2999999"]


def test_a_broken_chunk_goes_on_where_the_registry_stopped(liar: LyingRegistry) -> None:
    broken = False

    def half(handler: Handler, answer: Answer) -> Answer | None:
        nonlocal broken
        if not handler.headers.get("Content-Range"):
            return lies.error(411, "X", "length required")
        if broken:
            return answer
        broken = True
        for data in liar.uploads.values():
            del data[len(data) // 2 :]
        handler.hang_up()
        return None

    liar.lie("PATCH", "", half)
    unknown(liar)


def broken_at(liar: LyingRegistry, size: int, times: int = 1) -> lies.Lie:
    """Return a lie that takes `size` bytes and hangs up, `times` times; honest then."""
    left = [size] * times

    def lie(handler: Handler, answer: Answer) -> Answer | None:
        if not left:
            return answer
        for data in liar.uploads.values():
            del data[left[0] :]
        left.pop()
        handler.hang_up()
        return None

    return lie


@pytest.mark.parametrize("size", [0, 1_000_000, 2_999_999])
@pytest.mark.parametrize("send", [known, unknown])
def test_a_broken_stream_goes_on_where_the_registry_stopped(
    liar: LyingRegistry, size: int, send: Any
) -> None:
    liar.lie("PUT", "/uploads/", lies.status(405), times=1)  # `known` comes by a stream then
    if send is unknown:
        liar.be_honest()
    liar.lie("PATCH", "", broken_at(liar, size))
    send(liar)
    seen = [method for method in methods(liar) if method != "DELETE"]
    assert seen[-4:] == ["PATCH", "GET", "PATCH", "PUT"]


def test_a_large_blob_goes_on_as_long_as_its_end_is_kept(liar: LyingRegistry) -> None:
    liar.lie("PATCH", "", broken_at(liar, len(LARGE.content) - REPLAY_BYTES + 300_000))
    unknown(liar, LARGE)
    liar.be_honest()
    liar.lie("PATCH", "", broken_at(liar, 2_000_000))
    with pytest.raises(Upstream, match="the registry has lost a part of the upload"):
        unknown(liar, LARGE)
    assert methods(liar)[-1] == "DELETE"


def test_a_stream_that_always_breaks_ends(liar: LyingRegistry) -> None:
    liar.lie("PATCH", "", broken_at(liar, 500_000, times=99))
    with pytest.raises(Upstream, match=r"EOF|reset") as caught:
        unknown(liar)
    assert caught.value.may_pass
    assert methods(liar).count("PATCH") == 6


def test_an_upload_that_the_registry_has_forgotten_begins_again(liar: LyingRegistry) -> None:
    def forget(handler: Handler, answer: Answer) -> None:
        liar.uploads.clear()
        handler.hang_up()

    liar.lie("PATCH", "", forget, times=1)
    unknown(liar)


@pytest.mark.parametrize("lie", [lies.no_answer, lies.status(503)])
@pytest.mark.parametrize("send", [known, unknown])
def test_a_lost_answer_is_no_lost_upload(liar: LyingRegistry, lie: lies.Lie, send: Any) -> None:
    liar.lie("PUT", "/uploads/", lie)
    send(liar)
    assert methods(liar)[-1] == "HEAD"


@pytest.mark.parametrize("content", [BLOB.content[:-1], BLOB.content + b"x", bytes(3_000_000)])
def test_content_that_is_not_the_blob_is_not_stored(liar: LyingRegistry, content: bytes) -> None:
    with pytest.raises(Upstream):
        known(liar, BLOB, content)
    assert set(liar.blobs["app"]) <= {BLOB.digest}  # it may have had all of it before the rest


@pytest.mark.parametrize(
    ("lie", "kind", "sentence"),
    [
        (lies.status(403, "DENIED", "requested access to the resource is denied"), Forbidden,
         "denied: requested access to the resource is denied"),
        (lies.status(401, "UNAUTHORIZED", "authentication required"), Unauthorized,
         "unauthorized: authentication required"),
        (lies.status(400, "DIGEST_INVALID", "no"), Upstream, "digest invalid: no"),
        (lies.status(507), Upstream, "received unexpected HTTP status: 507 Insufficient Storage"),
    ],
)  # fmt: skip
def test_a_refused_upload_is_told_and_forgotten(
    liar: LyingRegistry, lie: lies.Lie, kind: type[Exception], sentence: str
) -> None:
    liar.lie("PUT", "/uploads/", lie)
    with pytest.raises(kind, match=sentence):
        known(liar)
    assert methods(liar)[-1] == "DELETE"


@pytest.mark.parametrize("location", ["", "ftp://x/y", "http://[", "http://\x7f/"])
def test_a_location_that_leads_nowhere_is_told(liar: LyingRegistry, location: str) -> None:
    liar.lie("POST", "", lies.header(Location=location))
    with pytest.raises(Upstream, match="bad answer to an upload"):
        known(liar)


def test_secrets_do_not_follow_a_location(liar: LyingRegistry) -> None:
    from sampan.distribution.credentials import Credentials

    seen = []

    def note(handler: Handler, answer: Answer) -> Answer:
        seen.append(handler.headers.get("Authorization"))
        return Answer(201)

    with lies.lying_registry() as other:
        other.lie("", "", note)
        liar.challenge, liar.tokens = 'Basic realm="x"', {"Basic dTpw"}
        liar.lie("POST", "", lambda handler, answer: (
            lies.header(Location=f"{other.url}/v2/app/blobs/uploads/1")(handler, answer)
            if answer.status == 202 else answer
        ))  # fmt: skip
        with_repository(
            f"{liar.address}/app",
            lambda r: r.upload_known(descriptor(BLOB), reader(BLOB.content), lambda _: None),
            Credentials("u", "p"),
            push=True,
        )
    assert set(seen) == {None}


# --- mounts and manifests --------------------------------------------------------------------


def test_a_blob_is_mounted_from_another_repository(liar: LyingRegistry) -> None:
    liar.blobs["base"] = {BLOB.digest: BLOB.content}

    async def work(repository: Repository) -> bool:
        return await repository.mount(digest_of(BLOB.content), "base")

    assert with_repository(f"{liar.address}/app", work, push=True)
    assert liar.blobs["app"][BLOB.digest] == BLOB.content


def test_a_blob_that_is_not_mounted_is_uploaded_in_the_same_session(liar: LyingRegistry) -> None:
    liar.mounts = False

    async def work(repository: Repository) -> None:
        assert await repository.has_blob(digest_of(BLOB.content)) is None
        assert not await repository.mount(digest_of(BLOB.content), "base")
        await repository.upload_known(descriptor(BLOB), reader(BLOB.content), lambda _: None)
        assert await repository.has_blob(digest_of(BLOB.content)) == len(BLOB.content)

    with_repository(f"{liar.address}/app", work, push=True)
    assert methods(liar) == ["HEAD", "POST", "PUT", "HEAD"]


def test_no_upload_that_was_begun_in_place_of_a_mount_is_left(liar: LyingRegistry) -> None:
    """A layer may be known in two compressed forms, and be sent in a third one."""
    liar.mounts = False
    other = Blob(OCTETS, b"another")

    async def work(repository: Repository) -> None:
        for digest in (BLOB.digest, other.digest):
            assert not await repository.mount(digest_of(digest.encode()), "base")
        await repository.upload(reader(BLOB.content), lambda _: None)
        await repository.upload_known(descriptor(other), reader(other.content), lambda _: None)

    with_repository(f"{liar.address}/app", work, push=True)
    assert methods(liar).count("POST") == 2
    assert not liar.uploads
    assert set(liar.blobs["app"]) == {BLOB.digest, other.digest}


def test_a_manifest_is_stored_under_a_tag_and_a_digest(liar: LyingRegistry) -> None:
    what = image(small_layer("x")).manifest

    async def work(repository: Repository) -> None:
        for reference in ("1", what.digest):
            digest = await repository.put_manifest(reference, what.media_type, what.content)
            assert digest == what.digest
        with pytest.raises(InvalidArgument):
            await repository.put_manifest("sha256:" + "0" * 64, what.media_type, what.content)

    with_repository(f"{liar.address}/app", work, push=True)
    assert liar.manifests["app"]["1"] == (what.media_type, what.content)


def test_a_registry_that_stores_something_else_is_told(liar: LyingRegistry) -> None:
    liar.lie("PUT", "", lies.header(Docker_Content_Digest="sha256:" + "0" * 64))
    with pytest.raises(Upstream, match="the registry has stored"):
        with_repository(
            f"{liar.address}/app", lambda r: r.put_manifest("1", "x/y", b"{}"), push=True
        )


# --- cancelling and reading again ------------------------------------------------------------


def test_a_cancelled_upload_ends_at_once_and_at_the_registry(liar: LyingRegistry) -> None:
    async def work(repository: Repository) -> float:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def advance(_: int) -> None:
            loop.call_soon_threadsafe(started.set)

        upload: Any = repository.upload(lambda size: bytes(size), advance)
        task = asyncio.ensure_future(upload)
        await started.wait()
        began = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return time.monotonic() - began

    assert with_repository(f"{liar.address}/app", work, push=True, limits=ClientLimits()) < 20
    assert methods(liar)[-1] == "DELETE"


def test_the_last_bytes_of_a_reader_can_be_read_again() -> None:
    told: list[int] = []
    content = os.urandom(1000)
    replay = Replay(reader(content, 300), told.append)
    assert replay.read(200) + replay.read(300) == content[:500]
    assert replay.rewind(450)
    found = b""
    while data := replay.read(170):
        found += data
    assert found == content[450:]
    assert (replay.size, replay.digest, sum(told)) == (1000, digest_of(content), 1000)
    assert replay.rewind()
    assert not replay.rewind(1001)
    large = Replay(lambda size: bytes(size), lambda _: None)
    for _ in range(3):
        large.read(REPLAY_BYTES // 2)
    assert not large.rewind()
    assert large.rewind(REPLAY_BYTES)
