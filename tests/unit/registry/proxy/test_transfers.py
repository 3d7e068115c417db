"""Blobs on their way: one transfer for all who want it, read while it comes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sampan.registry.proxy.transfers import HELD_BACK
from tests.caching import Asking, Cache, caching
from tests.lying_registry import LyingRegistry, corrupt, held_until, status, when
from tests.remote_images import Layer, image, layer, push
from tests.session import eventually

SIZE = 1 << 20


@pytest.fixture
def blob(liar: LyingRegistry) -> Layer:
    content = b"".join(bytes([n % 251]) * 4096 for n in range(SIZE // 4096))
    found = layer(content, compression="")
    push(liar, "app", "1", image(found))
    return found


def path(blob: Layer, name: str = "app") -> str:
    return f"/v2/{name}/blobs/{blob.digest}"


def gets(liar: LyingRegistry, blob: Layer) -> int:
    return liar.log.lines.count(("GET", path(blob)))


def has_begun(asking: Asking, count: int = 1) -> None:
    eventually(lambda: len(asking.answer.body) >= count)


def test_two_clients_share_one_transfer_and_read_before_its_end(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    rest = threading.Event()
    liar.lie("GET", blob.digest, held_until(rest, SIZE // 2))
    one = any_cache.begin_to_ask("GET", path(blob))
    has_begun(one)
    two = any_cache.begin_to_ask("GET", path(blob))
    has_begun(two, SIZE // 2 - HELD_BACK)
    rest.set()
    assert one.result().body == two.result().body == blob.content
    assert gets(liar, blob) == 1


def test_a_client_that_goes_away_harms_nobody(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    rest = threading.Event()
    liar.lie("GET", blob.digest, held_until(rest, SIZE // 2))
    one = any_cache.begin_to_ask("GET", path(blob))
    two = any_cache.begin_to_ask("GET", path(blob))
    has_begun(one)
    has_begun(two)
    one.cut()
    rest.set()
    assert two.result().body == blob.content
    assert any_cache.get(path(blob)).body == blob.content
    assert gets(liar, blob) == 1


def test_a_transfer_ends_without_clients(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    rest = threading.Event()
    liar.lie("GET", blob.digest, held_until(rest, SIZE // 2))
    one = any_cache.begin_to_ask("GET", path(blob))
    has_begun(one)
    one.cut()
    rest.set()
    eventually(lambda: any_cache.ask("HEAD", path(blob)).status == 200)
    assert any_cache.get(path(blob)).body == blob.content
    assert gets(liar, blob) == 1


def test_a_part_is_sent_as_soon_as_it_is_there(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    rest = threading.Event()
    liar.lie("GET", blob.digest, held_until(rest, SIZE // 2))
    part = any_cache.begin_to_ask("GET", path(blob), {"Range": "bytes=1000-1999"}).result()
    assert (part.status, part.body) == (206, blob.content[1000:2000])
    rest.set()


def test_the_end_of_a_wrong_blob_is_sent_to_nobody(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    liar.lie("GET", blob.digest, corrupt)
    asking = any_cache.begin_to_ask("GET", path(blob))
    with pytest.raises(Exception, match="digest"):
        asking.result()
    assert len(asking.answer.body) <= SIZE - HELD_BACK


def test_many_clients_of_many_repositories_share_one_transfer(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    push(liar, "other", "1", image(blob))
    for name in ("app", "other"):
        any_cache.manifest(name, "1")
    rest = threading.Event()
    liar.lie("GET", blob.digest, held_until(rest, SIZE // 2))
    asking = [
        any_cache.begin_to_ask("GET", path(blob, name)) for name in ("app", "other") for _ in "1234"
    ]
    for one in asking:
        has_begun(one)
    rest.set()
    assert {one.result().body for one in asking} == {blob.content}
    assert (
        len([line for line in liar.log.lines if line[0] == "GET" and blob.digest in line[1]]) == 1
    )


def test_after_a_failure_the_next_client_begins_anew(
    liar: LyingRegistry, any_cache: Cache, blob: Layer
) -> None:
    liar.lie("GET", blob.digest, status(404, "BLOB_UNKNOWN"), times=1)
    assert any_cache.get(path(blob)).status == 404
    assert any_cache.get(path(blob)).body == blob.content


def test_a_torn_file_comes_again(liar: LyingRegistry, cache: Cache, blob: Layer) -> None:
    assert cache.get(path(blob)).body == blob.content
    digits = blob.digest.partition(":")[2]
    driver = cache.registry.driver
    with driver.append(f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data", 10):
        pass
    assert cache.get(path(blob)).body == blob.content
    assert gets(liar, blob) == 2


def test_what_a_killed_transfer_left_is_thrown_away(
    liar: LyingRegistry, tmp_path: Path, blob: Layer
) -> None:
    root = tmp_path / "data"
    with caching(liar, root=root, local=("mine",)) as cache:
        cache.registry.uploads.start("app")
        cache.registry.uploads.start("mine")
    with caching(liar, root=root, local=("mine",)) as cache:
        folder = "docker/registry/v2/repositories"
        assert cache.registry.driver.list(f"{folder}/app/_uploads") == []
        assert len(cache.registry.driver.list(f"{folder}/mine/_uploads")) == 1


def test_the_end_of_the_registry_ends_transfers(
    liar: LyingRegistry, tmp_path: Path, blob: Layer
) -> None:
    never = threading.Event()
    liar.lie("GET", blob.digest, when(lambda: False, held_until(never)))
    with caching(liar, root=tmp_path / "data") as cache:
        cache.manifest("app", "1")
        asking = cache.begin_to_ask("GET", path(blob))
        eventually(lambda: gets(liar, blob) == 1)
    assert asking.result().status == 503
