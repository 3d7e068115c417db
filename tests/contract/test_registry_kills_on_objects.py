"""kill -9 between the requests by which a push, or a removal, changes its storage.

However many changes have been made: half of the kills come before the next request is sent, half
as soon as the last one is answered. Requests that only read leave all as it was.

What was acknowledged is there, what is visible is whole, and nothing is left that costs room.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from sampan.registry import paths
from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_MANIFEST
from tests.object_storages import REMOTE, Storages, keys
from tests.own_registry import Shop, manifest, serving, sha

pytestmark = pytest.mark.slow
MB = 1 << 20
CHUNKS = {"s3": 5 * MB, "gcs": 2 * MB, "swift": 5 * MB, "oss": 5 * MB}
DONE = 42
MOMENTS = {"before": False, "after": True}
MOST = 100  # more changes than any push makes
LARGE = os.urandom(6 * MB)  # two parts, or three
BODY = manifest([sha(LARGE)], [LARGE])


@pytest.fixture(scope="module", params=REMOTE)
def place(request: pytest.FixtureRequest, storages: Storages) -> tuple[str, dict[str, Any]]:
    kind = str(request.param)
    more: dict[str, Any] = {"chunksize": CHUNKS[kind]} if kind in CHUNKS else {}
    if kind == "s3":
        more["multipartcopythresholdsize"] = 0
    return kind, {**storages.place(kind), **more}


def push(registry: Registry, acknowledge: Callable[[bytes], object]) -> None:
    for blob in (LARGE, b"{}"):
        key = registry.uploads.start("a")
        receiver = registry.uploads.receive("a", key)
        for start in range(0, len(blob), MB):
            receiver.write(blob[start : start + MB])
        registry.uploads.finish("a", key, Digest(sha(blob)), receiver)
        acknowledge(b"b")
    registry.manifests.put("a", "1", MEDIA_MANIFEST, BODY)
    acknowledge(b"m")


def remove(registry: Registry, acknowledge: Callable[[bytes], object]) -> None:
    registry.manifests.remove("a", registry.manifests.find("a", "1").digest)
    acknowledge(b"m")
    registry.collector.collect(-1)
    acknowledge(b"c")


Work = Callable[[Registry, Callable[[bytes], object]], None]


def live(
    place: tuple[str, dict[str, Any]], state: Path, work: Work, changes: int, after: bool
) -> tuple[int, bool]:
    """Work in a process that is killed when it has made so many changes; return what it
    acknowledged, and whether it came to its end before."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with Registry.on_objects(open_objects(*place), state) as registry:
                _count(changes, after)
                work(registry, lambda word: os.write(writer, word))
                os._exit(DONE)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        acknowledged = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return len(acknowledged), False
    assert os.WEXITSTATUS(status) == DONE
    return len(acknowledged), True


def _count(changes: int, after: bool) -> None:
    """Kill this process after so many changes, or before the next: all libraries use urllib3."""
    numbers = itertools.count(1)
    send: Callable[..., Any] = urllib3.HTTPConnectionPool.urlopen

    def counted(pool: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        number = 0 if method in ("GET", "HEAD") else next(numbers)
        if number > changes and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send(pool, method, url, *arguments, **options)
        if number == changes and after and number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    urllib3.HTTPConnectionPool.urlopen = counted  # type: ignore[method-assign]


def left(shop: Shop, kind: str) -> list[str]:
    """Return all that is in the storage, but for notes of registries."""
    driver = shop.registry.driver
    assert isinstance(driver, ObjectDriver)
    bucket: Any = driver.bucket
    found, root = keys(driver), driver.key("")
    if kind == "s3":
        uploads = bucket.client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", ())
        found += [f"upload of {upload['Key']}" for upload in uploads]
    if kind == "oss":
        begun = [it.key for it in bucket.bucket.list_multipart_uploads().upload_list]
        found += [f"upload of {key}" for key in begun if key.startswith(root)]
    return [key for key in found if "/registries/" not in key]


def examine(shop: Shop, kind: str, acknowledged: int) -> None:
    """See what a push has left, push once more, remove all of it, and see that it is gone."""
    registry = shop.registry
    for blob in (LARGE, b"{}")[:acknowledged]:
        assert shop.get(f"/v2/a/blobs/{sha(blob)}").body == blob
    answer = shop.get("/v2/a/manifests/1")
    assert answer.status == 200 or acknowledged < 3
    if answer.status == 200:
        assert answer.body == BODY
        assert shop.get(f"/v2/a/blobs/{sha(LARGE)}").body == LARGE
    registry.purge_uploads(time.time() + 60)
    assert [key for key in left(shop, kind) if "upload" in key or "joining" in key] == []
    push(registry, lambda word: None)
    assert shop.get(f"/v2/a/blobs/{sha(LARGE)}").body == LARGE
    shop.ask("DELETE", f"/v2/a/manifests/{sha(BODY)}")
    registry.collector.collect(-1)
    registry.purge_uploads(time.time() + 60)
    assert left(shop, kind) == []


@pytest.mark.parametrize("after", MOMENTS.values(), ids=MOMENTS)
def test_a_kill_at_any_request_loses_nothing_and_leaves_nothing(
    place: tuple[str, dict[str, Any]], tmp_path: Path, after: bool
) -> None:
    points = 0
    for changes in range(int(after), MOST, 2):
        state = tmp_path / str(changes)
        state.mkdir()
        acknowledged, ended = live(place, state, push, changes, after)
        with opened(place, state) as shop:
            examine(shop, place[0], acknowledged)
        if ended:
            assert acknowledged == 3
            break
        points += 1
    assert points > 7


def leads_nowhere(shop: Shop) -> list[str]:
    """Return the links in the storage whose blob, or whose manifest, is not there."""
    driver = shop.registry.driver
    assert isinstance(driver, ObjectDriver)
    found, nowhere = keys(driver), []
    for key in found:
        link = key.removeprefix(driver.key(""))
        if not link.endswith("/link"):
            continue
        digest = Digest(driver.read(link).decode())
        wanted = [paths.blob(digest)]
        if "/tags/" in link:
            wanted.append(paths.revision_link("a", digest))
        if any(driver.key(path) not in found for path in wanted):
            nowhere.append(link)
    return nowhere


@pytest.mark.parametrize("after", MOMENTS.values(), ids=MOMENTS)
def test_a_removal_that_is_killed_at_any_request_leaves_nothing_that_leads_to_what_is_gone(
    place: tuple[str, dict[str, Any]], tmp_path: Path, after: bool
) -> None:
    points = 0
    body = manifest([sha(b"layer")], [b"layer"])
    for changes in range(int(after), MOST, 2):
        with opened(place, tmp_path) as shop:
            assert shop.push("a", "1", [b"layer"]) == sha(body)
            shop.put("a", "2", body)
        acknowledged, ended = live(place, tmp_path, remove, changes, after)
        with opened(place, tmp_path) as shop:
            assert leads_nowhere(shop) == []
            tags = shop.get("/v2/a/tags/list").json.get("tags") or []
            assert not (tags and acknowledged)
            for tag in tags:
                assert shop.get(f"/v2/a/manifests/{tag}").body == body
                assert shop.get(f"/v2/a/blobs/{sha(b'layer')}").body == b"layer"
        if ended:
            assert acknowledged == 2
            break
        points += 1
    assert points > 1


@contextmanager
def opened(place: tuple[str, dict[str, Any]], state: Path) -> Iterator[Shop]:
    with Registry.on_objects(open_objects(*place), state) as registry, serving(registry) as shop:
        yield shop
