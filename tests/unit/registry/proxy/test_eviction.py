"""A cache that is full forgets what nobody has used for longest, and refuses nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.registry.content.quotas import Quota
from sampan.registry.patterns import Pattern
from sampan.registry.proxy.eviction import AFTER, IN_USE_SECONDS, Eviction
from sampan.registry.proxy.logins import Login
from sampan.registry.proxy.upstreams import Places
from tests.caching import Cache, caching, upstream
from tests.lying_registry import LyingRegistry, corrupt, held_until, status
from tests.own_registry import sha
from tests.remote_images import Image, Layer, image, layer, push
from tests.session import eventually

KiB = 1 << 10
SIZE = 100 * KiB  # of an image's one layer; its configuration and manifest are small
SMALL = 4 * KiB


def shipped(*layers: Layer) -> Image:
    return image(*(layers or (fresh(),)))


def fresh(size: int = SIZE) -> Layer:
    return layer(os.urandom(size), compression="")


def later(cache: Cache) -> None:
    with cache.registry.metadata.change() as database:
        for table in ("manifests", "blobs"):
            database.execute(f"UPDATE {table} SET touched = touched - ?", (2 * IN_USE_SECONDS,))


def pulled(cache: Cache, liar: LyingRegistry, name: str, what: Image) -> None:
    """Pull an image whole, long after all that was pulled before."""
    later(cache)
    push(liar, name.partition("/")[2] or name, "1", what)
    assert cache.manifest(name, "1").body == what.manifest.content
    for blob in what.blobs:
        assert cache.blob(name, blob.digest).body == blob.content


def files(cache: Cache) -> dict[str, int]:
    """Return what is stored: the files, not what rows say of them."""
    root = "docker/registry/v2/blobs/sha256"
    driver = cache.registry.driver
    found = {}
    for two in driver.list(root):
        for digits in driver.list(f"{root}/{two}"):
            with suppress(FileNotFoundError):  # it has just been removed
                found[f"sha256:{digits}"] = driver.size(f"{root}/{two}/{digits}/data")
    return found


def kept(cache: Cache, what: Image) -> bool:
    """An image is here whole, or nothing of it."""
    here = parts(cache, what)
    assert here in (set(), names(what))
    return bool(here)


def names(what: Image) -> set[str]:
    return {what.manifest.digest, *(one.digest for one in what.layers)}


def parts(cache: Cache, what: Image) -> set[str]:
    """What is here of an image; while it is removed, some of it."""
    return names(what) & files(cache).keys()


@contextmanager
def limited(
    liar: LyingRegistry, size: int, root: Path | None = None, **more: object
) -> Iterator[Cache]:
    with caching(upstream(liar, max_size=size, **more), root=root) as cache:
        yield cache


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_the_least_recently_used_image_makes_room(
    liar: LyingRegistry, tmp_path: Path, kind: str
) -> None:
    images = [shipped() for _ in range(4)]
    root = tmp_path / "data" if kind == "files" else None
    with limited(liar, 3 * SIZE + 8 * SMALL, root) as cache:
        for number, one in enumerate(images[:3]):
            pulled(cache, liar, f"app-{number}", one)
        pulled(cache, liar, "app-0", images[0])  # again: now app-1 is the oldest
        pulled(cache, liar, "app-3", images[3])
        assert [kept(cache, one) for one in images] == [True, False, True, True]
        assert sum(files(cache).values()) <= 3 * SIZE + 8 * SMALL
        assert cache.registry.lists.tags("app-1", "", None).items == []
        assert cache.figure("evicted_bytes", "manifest") > SIZE
        before = liar.log.count("GET", images[1].layers[0].digest)
        pulled(cache, liar, "app-1", images[1])  # it comes again
        assert liar.log.count("GET", images[1].layers[0].digest) == before + 1


@pytest.mark.parametrize("there", [True, False])
def test_what_does_not_come_pushes_nothing_out(liar: LyingRegistry, there: bool) -> None:
    """A manifest tells lengths as it likes, and registries take it."""
    image, huge = shipped(), replace(fresh(SMALL), extra={"size": 3 * SIZE})
    with limited(liar, 3 * SIZE + 8 * SMALL) as cache:
        pulled(cache, liar, "app", image)
        later(cache)
        evil = shipped(huge)
        push(liar, "evil", "1", evil)
        if not there:
            for method in ("GET", "HEAD"):
                liar.lie(method, huge.digest, status(404, "BLOB_UNKNOWN"))
        assert cache.manifest("evil", "1").status == 200
        assert cache.blob("evil", huge.digest).status != 200
        assert kept(cache, image)


def test_what_others_need_stays(liar: LyingRegistry) -> None:
    base = fresh()
    old, young = shipped(base, fresh()), shipped(base, fresh())
    with limited(liar, 3 * SIZE + 8 * SMALL) as cache:
        pulled(cache, liar, "old", old)
        pulled(cache, liar, "young", young)
        pulled(cache, liar, "new", shipped())
        here = files(cache)
        assert old.layers[1].digest not in here
        assert {base.digest, young.layers[1].digest} <= here.keys()
        assert cache.blob("young", base.digest).body == base.content


def test_what_was_pushed_here_is_no_part_of_it(liar: LyingRegistry) -> None:
    mine = [os.urandom(SIZE) for _ in range(3)]
    with caching(upstream(liar, max_size=SIZE + 4 * SMALL), local=("mine/*",)) as cache:
        cache.push("mine/app", "1", mine)
        lonely = cache.push_blob("mine/app", b"nobody needs this")
        for number in range(3):
            pulled(cache, liar, f"app-{number}", shipped())
        assert cache.tags("mine/app") == ["1"]
        assert {lonely, *map(sha, mine)} <= files(cache).keys()


def test_what_a_local_repository_has_mounted_stays(liar: LyingRegistry) -> None:
    what = shipped()
    with caching(upstream(liar, max_size=SIZE + 4 * SMALL), local=("mine/*",)) as cache:
        pulled(cache, liar, "app", what)
        digest = what.layers[0].digest
        assert (
            cache.ask("POST", f"/v2/mine/app/blobs/uploads/?mount={digest}&from=app").status == 201
        )
        pulled(cache, liar, "other", shipped())
        assert cache.manifest("app", what.digest).status == 200  # from the upstream
        assert cache.blob("mine/app", digest).body == what.layers[0].content


def test_what_is_larger_than_all_is_passed_on(liar: LyingRegistry, any_cache: Cache) -> None:
    places = Places(any_cache.proxy.places.upstreams, max_size=2 * SIZE)
    small, huge = shipped(), shipped(fresh(3 * SIZE))
    eviction = Eviction(any_cache.registry, places, any_cache.proxy.figures)
    any_cache.proxy._shared.eviction = eviction
    pulled(any_cache, liar, "small", small)
    for _ in range(2):
        pulled(any_cache, liar, "huge", huge)
    assert liar.log.count("GET", huge.layers[0].digest) == 2
    assert kept(any_cache, small)
    assert huge.layers[0].digest not in files(any_cache)
    assert any_cache.registry.driver.list("docker/registry/v2/repositories/huge/_uploads") == []


def test_what_is_passed_on_is_verified_too(liar: LyingRegistry) -> None:
    huge = shipped(fresh(3 * SIZE))
    digest = huge.layers[0].digest
    push(liar, "huge", "1", huge)
    with limited(liar, SIZE) as cache:
        cache.manifest("huge", "1")
        liar.lie("GET", digest, corrupt)
        asking = cache.begin_to_ask("GET", f"/v2/huge/blobs/{digest}")
        assert asking.future.exception(30) is not None
        assert len(asking.answer.body) < 3 * SIZE
        liar.be_honest()
        assert cache.blob("huge", digest).body == huge.layers[0].content


def test_what_is_on_its_way_counts(liar: LyingRegistry) -> None:
    first, second = shipped(), shipped()
    rest = threading.Event()
    with limited(liar, SIZE + 8 * SMALL) as cache:
        for name, one in (("a", first), ("b", second)):
            push(liar, name, "1", one)
            cache.manifest(name, "1")
        liar.lie("GET", first.layers[0].digest, held_until(rest))
        asking = cache.begin_to_ask("GET", f"/v2/a/blobs/{first.layers[0].digest}")
        eventually(lambda: liar.log.count("GET", first.layers[0].digest) == 1)
        assert cache.blob("b", second.layers[0].digest).status == 200
        rest.set()
        assert asking.result().body == first.layers[0].content
        here = files(cache)
        assert first.layers[0].digest in here
        assert second.layers[0].digest not in here


def test_each_upstream_and_all_together_have_a_limit(liar: LyingRegistry) -> None:
    from tests.lying_registry import lying_registry

    with lying_registry() as other:
        one = upstream(liar, "one", prefix="one/", max_size=SIZE + 4 * SMALL)
        two = upstream(other, "two", prefix="two/", login=Login())
        with caching(one, two) as cache:
            mine, yours, more = shipped(), shipped(), shipped()
            pulled(cache, other, "two/a", yours)
            pulled(cache, liar, "one/a", mine)
            pulled(cache, liar, "one/b", more)
            assert [kept(cache, what) for what in (yours, mine, more)] == [True, False, True]


def test_a_lower_limit_holds_from_the_start_on(liar: LyingRegistry, tmp_path: Path) -> None:
    images = [shipped() for _ in range(4)]
    with caching(liar, root=tmp_path / "data") as cache:
        for number, one in enumerate(images):
            pulled(cache, liar, f"app-{number}", one)
    with limited(liar, 2 * SIZE + 8 * SMALL, tmp_path / "data") as cache, cache.working():
        eventually(lambda: not parts(cache, images[1]))
        assert [kept(cache, one) for one in images] == [False, False, True, True]


def test_blobs_that_no_manifest_needs_go_by_their_age_too(liar: LyingRegistry) -> None:
    first, second = shipped(), shipped()
    with limited(liar, SIZE + 8 * SMALL) as cache:
        for name, one in (("a", first), ("b", second)):
            push(liar, name, "1", one)
            assert cache.blob(name, one.layers[0].digest).status == 200
            later(cache)
        assert files(cache).keys() & {first.layers[0].digest, second.layers[0].digest} == {
            second.layers[0].digest
        }


def test_what_somebody_is_pulling_is_not_pushed_out(liar: LyingRegistry) -> None:
    first, second = shipped(fresh(), fresh()), shipped()
    with limited(liar, 2 * SIZE + 8 * SMALL) as cache:
        pulled(cache, liar, "a", first)
        push(liar, "b", "1", second)
        assert cache.manifest("b", "1").status == 200
        assert cache.blob("b", second.layers[0].digest).body == second.layers[0].content
        assert kept(cache, first)
        assert second.layers[0].digest not in files(cache)
        pulled(cache, liar, "b", second)
        assert (kept(cache, first), kept(cache, second)) == (False, True)


def test_an_eviction_leaves_some_room(liar: LyingRegistry) -> None:
    size = 10 * KiB
    with limited(liar, 40 * size) as cache:
        for number in range(45):
            pulled(cache, liar, f"app-{number}", shipped(fresh(size)))
            assert sum(files(cache).values()) <= 40 * size
        cache.proxy._shared.eviction.enforce()
        assert sum(files(cache).values()) > 40 * size * AFTER - 4 * size


def test_pulls_at_once_stay_within_it(liar: LyingRegistry, tmp_path: Path) -> None:
    images = [shipped() for _ in range(8)]
    limit = 3 * SIZE + 20 * SMALL
    with limited(liar, limit, tmp_path / "data") as cache:
        for number, one in enumerate(images):
            push(liar, f"app-{number}", "1", one)

        def pull(number: int) -> None:
            for _ in range(2):
                assert cache.manifest(f"app-{number}", "1").status == 200
                for blob in images[number].blobs:
                    assert cache.blob(f"app-{number}", blob.digest).body == blob.content

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(pull, range(8)))
        assert sum(files(cache).values()) <= limit


def test_a_quota_makes_a_cache_forget_and_refuses_no_pull(liar: LyingRegistry) -> None:
    images = [shipped() for _ in range(3)]
    with caching(upstream(liar, prefix="hub/")) as cache:
        quota = Quota(Pattern("hub/**"), 2 * SIZE + 8 * SMALL, tags=1, together=True)
        cache.registry.quotas.define([quota])
        for number, one in enumerate(images):
            pulled(cache, liar, f"hub/app-{number}", one)
        assert [kept(cache, one) for one in images] == [False, True, True]
        (use,) = cache.registry.quotas.used()
        assert use.used <= 2 * SIZE + 8 * SMALL
        assert use.unfinished == 0
        # What can never fit makes nobody else leave: any image may say that it is that large.
        pulled(cache, liar, "hub/huge", shipped(fresh(4 * SIZE)))
        assert [kept(cache, one) for one in images[1:]] == [True, True]


def test_a_quota_that_others_have_used_up_keeps_nothing(liar: LyingRegistry) -> None:
    what = shipped()
    with caching(upstream(liar, prefix="hub/")) as cache:
        cache.push("mine/app", "1", [b"x" * SIZE])
        cache.registry.quotas.define([Quota(Pattern("**"), SIZE + SMALL, together=True)])
        for _ in range(2):
            pulled(cache, liar, "hub/app", what)
        assert liar.log.count("GET", what.layers[0].digest) == 2
        assert cache.tags("mine/app") == ["1"]


def test_a_quota_hinders_no_sharing(liar: LyingRegistry) -> None:
    what = shipped()
    with caching(liar) as cache:
        cache.registry.quotas.define([Quota(Pattern("narrow/*"), SMALL)])
        pulled(cache, liar, "wide", what)
        push(liar, "narrow/app", "1", what)
        cache.manifest("narrow/app", "1")
        assert cache.blob("narrow/app", what.layers[0].digest).body == what.layers[0].content
        assert liar.log.count("GET", what.layers[0].digest) == 1


def test_who_may_not_remove_passes_on(liar: LyingRegistry) -> None:
    def others() -> None:
        raise OSError("another registry works on the same storage")

    first, second = shipped(), shipped()
    with limited(liar, SIZE + 8 * SMALL) as cache:
        pulled(cache, liar, "a", first)
        cache.registry.collector.allowed = others
        pulled(cache, liar, "b", second)
        assert first.layers[0].digest in files(cache)
        assert second.layers[0].digest not in files(cache)
