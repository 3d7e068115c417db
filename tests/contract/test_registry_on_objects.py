"""A whole registry on each object storage: images come and go, uploads move between registries."""

from __future__ import annotations

import itertools
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import Conflict
from sampan.registry.content.quotas import Quota
from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.driver import ANYHOW
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.patterns import Pattern
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests import object_storages
from tests.object_storages import REMOTE, Storages
from tests.own_registry import Shop, serving, sha

MB = 1 << 20
SMALLEST = {"s3": 5 * MB, "gcs": MB, "swift": MB, "oss": 5 * MB}  # chunks
Opening = Callable[[str], Shop]


@pytest.fixture(scope="module", params=REMOTE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def place(kind: str, storages: Storages) -> dict[str, Any]:
    """The options of a place that all tests of a kind share."""
    chunk = {"chunksize": SMALLEST[kind]} if kind in SMALLEST else {}
    return {**storages.place(kind), **chunk}


@pytest.fixture
def shops(kind: str, place: dict[str, Any], tmp_path: Path) -> Iterator[Opening]:
    """Open registries on one place, each with a state of its own; it is empty at first."""
    with ExitStack() as stack:

        def open_shop(state: str) -> Shop:
            driver = open_objects(kind, place)
            registry = stack.enter_context(Registry.on_objects(driver, tmp_path / state))
            return stack.enter_context(serving(registry, Service(deletes=True, redirect=True)))

        yield open_shop
        open_shop("sweeper").registry.driver.delete(["docker", "sampan"], within=ANYHOW)


def keys(shop: Shop) -> list[str]:
    driver = shop.registry.driver
    assert isinstance(driver, ObjectDriver)
    found = object_storages.keys(driver)  # not those of other tests, which share a bucket
    return [key for key in found if "/segments/" not in key and "/registries/" not in key]


def content(answer: Any) -> bytes:
    """Follow an answer that leads to the storage."""
    if answer.status == 307:
        with urllib.request.urlopen(answer.header("location")) as found:
            return bytes(found.read())
    assert answer.status in (200, 206)
    return bytes(answer.body)


def test_images_are_there_for_the_next_registry_and_can_be_collected(shops: Opening) -> None:
    first = shops("first")
    image = first.push("team/app", "1", [b"one", b"two"])
    other = first.push("team/other", "1", [b"one", b"three"])
    assert content(first.get(f"/v2/team/app/blobs/{sha(b'two')}")) == b"two"
    second = shops("second")  # it knows only what is in the storage
    assert second.tags("team/app") == ["1"]
    answer = second.get("/v2/team/app/manifests/1")
    assert answer.header("docker-content-digest") == image
    assert second.ask("DELETE", f"/v2/team/other/manifests/{other}").status == 202
    with pytest.raises(OSError, match="another registry works on the same storage"):
        second.registry.collector.collect(-1)
    first.registry.close()
    collected = second.registry.collector.collect(-1)
    assert sha(b"three") in collected.blobs
    assert sha(b"one") not in collected.blobs
    third = shops("third")
    assert third.get("/v2/team/other/manifests/1").status == 404
    assert third.get(f"/v2/team/other/blobs/{sha(b'three')}").status == 404
    assert content(third.get(f"/v2/team/app/blobs/{sha(b'one')}")) == b"one"


def test_a_large_blob_arrives_in_pieces_at_two_registries(shops: Opening) -> None:
    first, second = shops("first"), shops("second")
    blob = os.urandom(11 * MB + 12345)
    cuts = [0, 3, 7 * MB, 7 * MB + 10, len(blob)]
    place = first.begin("team/app")
    for turn, (start, end) in enumerate(itertools.pairwise(cuts)):
        shop = (first, second)[turn % 2]
        body = [blob[n : min(n + MB, end)] for n in range(start, end, MB)]
        answer = shop.ask("PATCH", place, body)
        assert answer.status == 202, answer
        assert answer.header("range") == f"0-{end - 1}"
    assert first.get(place).header("range") == f"0-{len(blob) - 1}"
    assert first.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
    url = f"/v2/team/app/blobs/{sha(blob)}"
    assert content(first.get(url)) == blob
    with first.registry.driver.open(_path(blob)) as found:
        assert found.size == len(blob)
        assert found.read(7 * MB - 5, 10) == blob[7 * MB - 5 : 7 * MB + 5]
    assert not [key for key in keys(first) if "_uploads" in key]
    second.registry.close()
    first.ask("DELETE", url)
    first.registry.collector.collect(-1)
    assert not [key for key in keys(first) if "blobs/sha256" in key]


def test_parts_and_heads_come_through_us_and_from_the_storage(kind: str, shops: Opening) -> None:
    shop = shops("only")
    blob = os.urandom(7 * MB)
    place = shop.begin("team/app")
    shop.ask("PATCH", place, [blob[n : n + MB] for n in range(0, len(blob), MB)])
    assert shop.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
    url = f"/v2/team/app/blobs/{sha(blob)}"
    away = shop.get(url)
    for service in (shop.application.service, Service(deletes=True)):
        shop.application.service = service
        head = shop.ask("HEAD", url)  # is answered here: the storage does not know the digest
        assert (head.status, head.header("content-length")) == (200, str(len(blob)))
        assert head.header("docker-content-digest") == sha(blob)
    for first, last in ((0, 0), (5 * MB - 10, 5 * MB + 10), (7 * MB - 5, 7 * MB - 1)):
        wanted, part = f"bytes={first}-{last}", blob[first : last + 1]
        answer = shop.get(url, Range=wanted)
        assert (answer.status, answer.body) == (206, part)
        if away.status == 307:
            asked = urllib.request.Request(away.header("location"))
            asked.add_header("Range", wanted)
            with urllib.request.urlopen(asked) as found:
                assert (found.status, found.read()) == (206, part)
    assert (away.status == 307) == (kind != "gcs")  # the emulator's users sign nothing


def _path(blob: bytes) -> str:
    digits = sha(blob).partition(":")[2]
    return f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"


def test_a_wrong_digest_ends_an_upload_and_leaves_nothing(shops: Opening) -> None:
    shop = shops("only")
    before = keys(shop)
    place = shop.begin("team/app")
    shop.ask("PATCH", place, b"x" * 100)
    assert shop.ask("PUT", f"{place}?digest={sha(b'y')}", b"more").code == "DIGEST_INVALID"
    assert shop.get(place).status == 404
    gone = shop.begin("team/app")
    shop.ask("PATCH", gone, b"x" * 100)
    assert shop.ask("DELETE", gone).status == 204
    shop.begin("team/app")
    assert len(shop.registry.purge_uploads(time.time() + 60)) == 1
    assert keys(shop) == before


def test_nothing_is_taken_for_what_it_was_when_others_wrote_it(shops: Opening) -> None:
    first, second = shops("first"), shops("second")
    place = first.begin("team/app")
    first.ask("PATCH", place, b"12345")
    key = place.rpartition("/")[2]
    path = f"docker/registry/v2/repositories/team/app/_uploads/{key}/data"
    with second.registry.driver.append(path, 0) as writer:  # of the same length
        writer.write(b"abcde")
    assert first.ask("PUT", f"{place}?digest={sha(b'12345')}").code == "DIGEST_INVALID"


def test_a_folder_of_rows_serves_one_registry(
    kind: str, place: dict[str, Any], tmp_path: Path
) -> None:
    with Registry.on_objects(open_objects(kind, place), tmp_path):
        with pytest.raises(Conflict, match="another process"):
            Registry.on_objects(open_objects(kind, place), tmp_path)


def test_the_next_registry_counts_the_uploads_that_are_there(shops: Opening, kind: str) -> None:
    size = SMALLEST.get(kind, MB) + MB  # more than one part
    quota = Quota(Pattern("team/*"), 2 * size)
    first = shops("first")
    first.registry.quotas.define([quota])
    place = first.begin("team/app")
    content = os.urandom(size)
    for piece in (content[:MB], content[MB:]):
        assert first.ask("PATCH", place, piece).status == 202
    first.registry.close()
    second = shops("second")  # it knows only what is in the storage
    second.registry.quotas.define([quota])
    second.push("team/other", "1")
    use = {row.name: row for row in second.registry.quotas.used()}["team/other"]
    assert use.unfinished == 0
    answer = second.ask("PATCH", second.begin("team/app"), os.urandom(size + 1))
    assert (answer.status, answer.code) == (403, "DENIED")
    assert second.ask("PUT", f"{place}?digest={sha(content)}").status == 201
    use = {row.name: row for row in second.registry.quotas.used()}["team/app"]
    assert (use.used, use.unfinished) == (size, 0)
