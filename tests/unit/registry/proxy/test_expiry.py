"""What nobody pulls is forgotten; what was pushed here stays."""

from __future__ import annotations

import time

from sampan.registry.proxy.expiry import HOUR, expire
from sampan.registry.proxy.upstreams import WEEK
from tests.caching import Cache, caching, upstream
from tests.lying_registry import LyingRegistry
from tests.remote_images import Image, busybox, push, small_layer


def later(cache: Cache, seconds: float, but: str = "") -> None:
    """Make all that is here older, but for one digest."""
    with cache.registry.metadata.change() as database:
        for table in ("manifests", "blobs"):
            database.execute(
                f"UPDATE {table} SET touched = touched - ? WHERE digest != ?", (seconds, but)
            )


def pulled(cache: Cache, liar: LyingRegistry, name: str, shipped: Image) -> None:
    push(liar, name, "1", shipped)
    cache.manifest(name, "1")
    for blob in shipped.blobs:
        cache.blob(name, blob.digest)


def blobs(cache: Cache) -> set[str]:
    return {digest for (digest,) in cache.registry.metadata.rows("SELECT digest FROM blobs")}


def test_what_nobody_pulled_for_a_week_is_forgotten_with_its_blobs(liar: LyingRegistry) -> None:
    old, used = busybox(small_layer("old")), busybox(small_layer("used"))
    with caching(liar) as cache:
        pulled(cache, liar, "app", old)
        pulled(cache, liar, "other", used)
        later(cache, WEEK + HOUR, used.digest)
        expire(cache.registry, cache.proxy.places)
        assert cache.registry.lists.tags("other", "", None).items == ["1"]
        assert cache.registry.lists.tags("app", "", None).items == []
        shared = {blob.digest for blob in used.blobs}
        assert blobs(cache) == {used.digest, *shared}
        liar.log.lines.clear()
        pulled(cache, liar, "app", old)
        assert any(old.layers[-1].digest in path for _, path in liar.log.lines)


def test_nothing_is_forgotten_without_a_ttl(liar: LyingRegistry) -> None:
    with caching(upstream(liar, ttl=0.0)) as cache:
        pulled(cache, liar, "app", busybox())
        later(cache, 100 * WEEK)
        expire(cache.registry, cache.proxy.places)
        assert cache.registry.lists.tags("app", "", None).items == ["1"]


def test_what_was_pushed_here_stays_even_its_garbage(liar: LyingRegistry) -> None:
    with caching(liar, local=("mine/*",)) as cache:
        cache.push("mine/app", "1")
        lonely = cache.push_blob("mine/app", b"nobody needs this")
        later(cache, 100 * WEEK)
        expire(cache.registry, cache.proxy.places, time.time())
        assert cache.tags("mine/app") == ["1"]
        assert lonely in blobs(cache)
