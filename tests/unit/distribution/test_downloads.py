"""Blobs from registries that break off, lie, or never end."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import NotFound, Upstream
from sampan.http.limits import ClientLimits
from tests import lying_registry as lies
from tests.asking import descriptor, fetched, with_repository
from tests.lying_registry import Answer, Handler, LyingRegistry
from tests.remote_images import FOREIGN, OCTETS, Blob

SIZE = 1_200_000
BLOB = Blob(OCTETS, os.urandom(SIZE))
SHA512 = Blob(OCTETS, b"five hundred and twelve", "sha512")
EMPTY = Blob(OCTETS, b"")


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        registry.blobs["app"] = {blob.digest: blob.content for blob in (BLOB, SHA512, EMPTY)}
        yield registry


def fetch(liar: LyingRegistry, folder: Path, blob: Blob = BLOB, **fields: Any) -> bytes:
    found: bytes = with_repository(
        f"{liar.address}/app",
        lambda repository: fetched(repository, descriptor(blob, **fields), folder),
    )
    return found


def refused(liar: LyingRegistry, folder: Path, **fields: Any) -> str:
    with pytest.raises(Upstream) as caught:
        fetch(liar, folder, **fields)
    return str(caught.value)


@pytest.mark.parametrize("blob", [BLOB, SHA512, EMPTY])
def test_a_blob_is_fetched_in_one_request(liar: LyingRegistry, tmp_path: Path, blob: Blob) -> None:
    assert fetch(liar, tmp_path, blob) == blob.content
    assert liar.log.count("GET", "/blobs/") == 1


def test_a_blob_may_have_no_length(liar: LyingRegistry, tmp_path: Path) -> None:
    liar.lie("GET", "/blobs/", lies.unsized)
    assert fetch(liar, tmp_path) == BLOB.content


def test_a_blob_goes_on_where_the_connection_broke(liar: LyingRegistry, tmp_path: Path) -> None:
    ranges = []

    def half(handler: Handler, answer: Answer) -> None:
        ranges.append(handler.headers.get("Range"))
        lies.broken_off(handler, answer)

    liar.lie("GET", "/blobs/", half, times=3)
    assert fetch(liar, tmp_path) == BLOB.content
    assert ranges[0] is None
    assert ranges[1] == "bytes=600000-"
    assert liar.log.count("GET", "/blobs/") == 4


def test_a_registry_without_ranges_sends_all_again(liar: LyingRegistry, tmp_path: Path) -> None:
    liar.lie("GET", "/blobs/", lies.broken_off, times=1)
    liar.lie("GET", "/blobs/", lies.no_ranges)
    assert fetch(liar, tmp_path) == BLOB.content


def test_a_stalled_blob_goes_on_with_a_new_connection(liar: LyingRegistry, tmp_path: Path) -> None:
    liar.lie("GET", "/blobs/", lies.broken_off, times=1)
    release = threading.Event()
    liar.lie("GET", "/blobs/", lies.held_until(release, 100_000), times=1)
    timer = threading.Timer(1, release.set)
    timer.start()
    assert fetch(liar, tmp_path) == BLOB.content
    timer.join()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_may_pass_is_tried_again(liar: LyingRegistry, tmp_path: Path, status: int) -> None:
    liar.lie("GET", "/blobs/", lies.status(status), times=4)
    assert fetch(liar, tmp_path) == BLOB.content


def test_attempts_end(liar: LyingRegistry, tmp_path: Path) -> None:
    liar.lie("GET", "/blobs/", lies.status(503))
    told = refused(liar, tmp_path)
    assert told == "received unexpected HTTP status: 503 Service Unavailable"
    assert liar.log.count("GET", "/blobs/") == 5


def test_attempts_without_progress_end(liar: LyingRegistry, tmp_path: Path) -> None:
    def nothing(handler: Handler, answer: Answer) -> None:
        handler.begin(answer)
        handler.hang_up()

    liar.lie("GET", "/blobs/", nothing)
    assert "unexpected EOF" in refused(liar, tmp_path)
    assert liar.log.count("GET", "/blobs/") == 5


def wrong_part(first: int) -> lies.Lie:
    def lie(handler: Handler, answer: Answer) -> Answer:
        headers = {**answer.headers, "Content-Range": f"bytes {first}-1199999/1200000"}
        return Answer(206, headers, BLOB.content[first:])

    return lie


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (lies.corrupt, "its content has another digest"),
        (lies.longer, "1204096 bytes instead of 1200000"),
        (lies.shorter, "600000 bytes instead of 1200000"),
        (lies.body(b""), "0 bytes instead of 1200000"),
        (lies.endless, "more than 1200000 bytes came"),
        (wrong_part(0), "another range"),
        (wrong_part(7), "another range"),
    ],
)
def test_lies_are_found_out(
    liar: LyingRegistry, tmp_path: Path, lie: lies.Lie, sentence: str
) -> None:
    liar.lie("GET", "/blobs/", lie)
    began = time.monotonic()
    told = refused(liar, tmp_path)
    assert told.startswith(f"filesystem layer verification failed for digest {BLOB.digest}: ")
    assert sentence in told
    assert liar.log.count("GET", "/blobs/") == 1
    assert time.monotonic() - began < 20


def test_a_wrong_part_after_a_break_is_found_out(liar: LyingRegistry, tmp_path: Path) -> None:
    liar.lie("GET", "/blobs/", lies.broken_off, times=1)
    liar.lie("GET", "/blobs/", wrong_part(500_000))
    assert "another range" in refused(liar, tmp_path)


def test_a_descriptor_may_lie_too(liar: LyingRegistry, tmp_path: Path) -> None:
    assert "instead of 5" in refused(liar, tmp_path, size=5)
    assert "instead of 2000000" in refused(liar, tmp_path, size=2_000_000)


def test_a_missing_blob_is_not_found(liar: LyingRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="blob unknown"):
        fetch(liar, tmp_path, Blob(OCTETS, b"missing"))


def test_a_redirected_blob_is_fetched_elsewhere_without_secrets(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    seen = []

    def note(handler: Handler, answer: Answer) -> Answer:
        seen.append(handler.headers.get("Authorization"))
        return answer

    with lies.lying_registry() as store:
        store.blobs["store"] = {BLOB.digest: BLOB.content}
        store.lie("GET", "", note)
        liar.challenge, liar.tokens = 'Basic realm="x"', {"Basic dTpw"}
        to = f"{store.url}/v2/store/blobs/{BLOB.digest}"
        liar.lie("GET", "/blobs/", lambda handler, answer: (
            lies.redirect(to)(handler, answer) if answer.status == 200 else answer
        ))  # fmt: skip
        from sampan.distribution.credentials import Credentials

        found = with_repository(
            f"{liar.address}/app",
            lambda repository: fetched(repository, descriptor(BLOB), tmp_path),
            Credentials("u", "p"),
        )
    assert found == BLOB.content
    assert seen == [None]


def test_foreign_layers_are_fetched_from_where_they_lie(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    with lies.lying_registry() as web:
        web.blobs["web"] = {BLOB.digest: BLOB.content}
        del liar.blobs["app"][BLOB.digest]
        urls = [f"{web.url}/nothing", "ftp://x", f"{web.url}/v2/web/blobs/{BLOB.digest}"]
        assert fetch(liar, tmp_path, media_type=FOREIGN, urls=urls) == BLOB.content
        assert liar.log.count("GET", "/blobs/") == 0
        web.be_honest()
        web.lie("GET", "", lies.corrupt)
        assert "another digest" in refused(liar, tmp_path, media_type=FOREIGN, urls=urls)


def test_foreign_layers_may_lie_in_the_registry(liar: LyingRegistry, tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:1/x"]
    assert fetch(liar, tmp_path, media_type=FOREIGN, urls=urls) == BLOB.content


def test_other_layers_are_fetched_from_their_registry_only(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    with lies.lying_registry() as web:
        assert fetch(liar, tmp_path, urls=[f"{web.url}/x"]) == BLOB.content
        assert web.log.count() == 0


def test_a_reader_that_leaves_is_an_error_of_its_own(liar: LyingRegistry) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            with_repository(
                f"{liar.address}/app",
                lambda r: r.fetch_blob(descriptor(BLOB), writing, lambda _: None),
            )
    finally:
        os.close(writing)


def test_a_cancelled_fetch_ends_at_once(liar: LyingRegistry, tmp_path: Path) -> None:
    liar.lie("GET", "/blobs/", lies.slow(0.05))
    path = tmp_path / "blob"

    async def work(repository: Any) -> float:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        task = asyncio.ensure_future(
            repository.fetch_blob(
                descriptor(BLOB), fd, lambda _: loop.call_soon_threadsafe(started.set)
            )
        )
        await started.wait()
        began = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        os.close(fd)
        assert task.cancelled()
        return time.monotonic() - began

    assert with_repository(f"{liar.address}/app", work, limits=ClientLimits()) < 20


def test_many_at_once_and_half_of_them_cancelled_leave_nothing(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    liar.lie("GET", "/blobs/", lies.broken_off, times=6)

    async def work(repository: Any) -> list[bool]:
        async def one(number: int) -> bytes:
            folder = tmp_path / str(number)
            folder.mkdir()
            return await fetched(repository, descriptor(BLOB), folder)

        tasks = [asyncio.create_task(one(number)) for number in range(12)]
        for turn, task in enumerate(tasks[::2]):
            await asyncio.sleep(0.003 * turn)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return [result == BLOB.content for result in results[1::2]]

    assert with_repository(f"{liar.address}/app", work) == [True] * 6
