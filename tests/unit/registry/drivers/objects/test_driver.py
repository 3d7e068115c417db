"""Removals in a bucket that breaks in the middle: what is left leads to what is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count, pairwise
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.drivers.driver import ANYHOW
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from tests.memory_bucket import MemoryBucket
from tests.own_registry import Shop, manifest, serving, sha

TOGETHER = (1, 3, 1000)  # objects that one request removes


class BreakingBucket(MemoryBucket):
    """Removes only so many objects of the layout."""

    def __init__(self, together: int) -> None:
        super().__init__(chunk=1 << 20)
        self.together = together
        self.left = 1 << 30
        self._one = threading.Lock()

    def delete(self, keys: Sequence[str]) -> None:
        assert len(keys) <= self.together
        with self._one:
            for key in reversed(keys):  # a request has no order
                if key.startswith(paths.ROOT):
                    if not self.left:
                        raise OSError("the bucket is away")
                    self.left -= 1
                self.objects.pop(key, None)


@pytest.mark.parametrize("together", TOGETHER)
def test_all_of_a_group_is_gone_before_anything_of_the_next_one_goes(together: int) -> None:
    groups = [[f"{paths.ROOT}/{kind}/{n}" for n in range(8)] for kind in ("tags", "links", "blobs")]
    for number in range(24):
        bucket = BreakingBucket(together)
        driver = ObjectDriver(bucket)
        driver.write([(f"{path}/x", b"") for group in groups for path in group])
        bucket.left = number
        with pytest.raises(OSError, match="away"):
            driver.delete(*groups, within=ANYHOW)
        driver.close()
        left = [sum(f"{path}/x" in bucket.objects for path in group) for group in groups]
        assert sum(left) == 24 - number
        for earlier, later in pairwise(left):
            assert not earlier or later == 8


def remove_the_manifest(shop: Shop) -> None:
    digest = shop.get("/v2/a/manifests/1").header("docker-content-digest")
    shop.registry.manifests.remove("a", Digest(digest))


def collect(shop: Shop) -> None:
    shop.registry.collector.collect(-1)


@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize("remove", [remove_the_manifest, collect])
def test_whatever_breaks_a_removal_nothing_is_left_that_leads_to_what_is_gone(
    tmp_path: Path, together: int, remove: Callable[[Shop], None]
) -> None:
    for number in count():
        bucket = BreakingBucket(together)
        state = tmp_path / str(number)
        with (
            Registry.on_objects(ObjectDriver(bucket), state) as registry,
            serving(registry) as shop,
        ):
            shop.push("a", "1", [b"kept"])
            shop.put("a", "2", shop.get("/v2/a/manifests/1").body)
            for name in ("a", "b/c"):
                for content in (b"one", b"two", b"three"):
                    shop.push_blob(name, content)
            bucket.left = number
            with suppress(OSError):
                remove(shop)
            bucket.left, left = 1 << 30, bucket.left
        _leads_to_what_is_there(bucket)
        with (
            Registry.on_objects(ObjectDriver(bucket), state) as registry,
            serving(registry) as shop,
        ):
            _is_as_its_lists_say(shop)
        if left:  # it came to its end
            assert number > 2
            break


def _leads_to_what_is_there(bucket: MemoryBucket) -> None:
    for key, content in bucket.objects.items():
        if key.endswith("/link"):
            digest = Digest(content.decode())
            assert paths.blob(digest) in bucket.objects, key
            if key.endswith("/current/link"):
                assert paths.revision_link("a", digest) in bucket.objects, key


def _is_as_its_lists_say(shop: Shop) -> None:
    for tag in shop.tags("a"):
        assert shop.get(f"/v2/a/manifests/{tag}").body == manifest([sha(b"kept")], [b"kept"])
    for name in ("a", "b/c"):
        for content in (b"one", b"two", b"three"):
            answer = shop.get(f"/v2/{name}/blobs/{sha(content)}")
            assert answer.status == 404 or answer.body == content
