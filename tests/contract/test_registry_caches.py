"""A cache whose storage is a bucket: it forgets what is old, and passes on while that is away."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from sampan.http.urls import Url
from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.errors import RegistryError
from sampan.registry.proxy import cached, placed, reading
from sampan.registry.proxy.eviction import IN_USE_SECONDS, Eviction
from sampan.registry.proxy.figures import Figures
from sampan.registry.proxy.upstreams import Places, Upstream
from sampan.registry.registry import Registry, Shared
from sampan.spec.digest import Digest
from tests.caching import Cache, caching, upstream
from tests.flaky import Way, flaky
from tests.lying_registry import LyingRegistry, lying_registry
from tests.object_storages import REMOTE, Storages, impatience, keys
from tests.own_registry import Shop, serving, sha
from tests.postgres import postgres
from tests.remote_images import Image, image, layer, push
from tests.session import eventually

pytestmark = pytest.mark.slow
KiB = 1 << 10
SIZE = 100 * KiB
SMALL = 4 * KiB
DONE = 42
MOST = 200
TURNS = 8  # tests among which the points are dealt out


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "DOWN_SECONDS", 0.0)
    monkeypatch.setattr(placed, "AWAY_SECONDS", 0.0)


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lying_registry() as found:
        yield found


@pytest.fixture(params=REMOTE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shipped() -> Image:
    return image(layer(os.urandom(SIZE), compression=""))


def later(registry: Registry) -> None:
    with registry.metadata.change() as database:
        for table in ("manifests", "blobs"):
            database.execute(f"UPDATE {table} SET touched = touched - ?", (2 * IN_USE_SECONDS,))


def pull(cache: Cache, name: str, what: Image) -> None:
    answer = cache.manifest(name, "1")
    assert (answer.status, answer.body) == (200, what.manifest.content)
    for blob in what.blobs:
        assert cache.blob(name, blob.digest).body == blob.content


def stored(registry: Registry) -> set[str]:
    """Return the digests of what is in the bucket."""
    assert isinstance(registry.driver, ObjectDriver)
    blobs = [key.split("/") for key in keys(registry.driver) if "/blobs/sha256/" in key]
    return {f"sha256:{parts[-2]}" for parts in blobs}


def kept(registry: Registry, what: Image) -> bool:
    """An image is there whole, or nothing of it."""
    wanted = {what.manifest.digest, *(one.digest for one in what.layers)}
    here = wanted & stored(registry)
    assert here in (set(), wanted)
    return bool(here)


# --- forgetting


def test_the_least_recently_used_image_makes_room(
    kind: str, storages: Storages, liar: LyingRegistry, tmp_path: Path
) -> None:
    images = [shipped() for _ in range(4)]
    registry = Registry.on_objects(open_objects(kind, storages.place(kind)), tmp_path)
    with caching(upstream(liar, max_size=3 * SIZE + 8 * SMALL), registry=registry) as cache:
        for number in (0, 1, 2, 0, 3):  # so 1 is the oldest
            push(liar, f"app-{number}", "1", images[number])
            pull(cache, f"app-{number}", images[number])
            later(registry)
        assert [kept(registry, one) for one in images] == [True, False, True, True]
        assert registry.lists.tags("app-1", "", None).items == []
        pull(cache, "app-1", images[1])
        assert [kept(registry, one) for one in images] == [True, True, False, True]
        assert isinstance(registry.driver, ObjectDriver)
        assert not [key for key in keys(registry.driver) if "_uploads" in key]


def test_what_somebody_reads_stays(
    storages: Storages, liar: LyingRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shipped(), shipped()
    digest = Digest(first.layers[0].digest)
    registry = Registry.on_objects(open_objects("s3", storages.place("s3")), tmp_path)
    with caching(upstream(liar, max_size=SIZE + 8 * SMALL), registry=registry) as cache:
        for name, what in (("a", first), ("b", second)):
            push(liar, name, "1", what)
        pull(cache, "a", first)
        monkeypatch.setattr(reading, "TOUCH_SECONDS", -1)
        place = cache.proxy.places.of("a")
        assert place
        content = cache.run(cache.proxy.cached(place, lambda _: False).open(digest))
        with content:
            begun = content.read(0, 10)
            later(registry)  # they read for long
            begun += content.read(10, 10)
            pull(cache, "b", second)  # which would push it out
            assert digest in stored(registry)
            while piece := content.read(len(begun), SIZE):
                begun += piece
        assert begun == first.layers[0].content
        later(registry)
        pull(cache, "b", second)
        assert digest not in stored(registry)
        assert kept(registry, second)


HUB = Upstream("hub", Url.parse("https://hub.example"), max_size=3 * SIZE)


def evict(registry: Registry) -> None:
    eviction = Eviction(registry, Places([HUB]), Figures())
    assert eviction.make_room("new", 2 * SIZE)


def _killed(place: dict[str, Any], state: Path, point: int) -> bool:
    """Evict in a process that is killed at a request; tell whether it came to its end before."""
    child = os.fork()
    if not child:
        try:
            with Registry.on_objects(open_objects("s3", place), state) as registry:
                _count_requests(point)
                evict(registry)
                os._exit(DONE)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == DONE
    return True


def _count_requests(point: int) -> None:
    numbers = itertools.count()
    send: Callable[..., Any] = urllib3.HTTPConnectionPool.urlopen

    def counted(*arguments: Any, **options: Any) -> Any:
        last = next(numbers) == point
        if last and point % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    urllib3.HTTPConnectionPool.urlopen = counted  # type: ignore[method-assign]


def _whole(shop: Shop, name: str, content: bytes) -> bool:
    """An image can be pulled, or there is nothing of it."""
    if shop.get(f"/v2/{name}/manifests/1").status == 404:
        return False
    assert shop.get(f"/v2/{name}/blobs/{sha(content)}").body == content
    assert shop.get(f"/v2/{name}/blobs/{sha(b'{}')}").body == b"{}"
    return True


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_kill_in_an_eviction_leaves_images_whole_or_gone(
    storages: Storages, tmp_path: Path, turn: int
) -> None:
    contents = [os.urandom(SIZE) for _ in range(3)]
    for point in range(turn, MOST, TURNS):
        place, state = storages.place("s3"), tmp_path / str(point)
        state.mkdir()
        with Registry.on_objects(open_objects("s3", place), state) as registry:
            with serving(registry) as shop:
                for number, content in enumerate(contents):
                    shop.push(f"app-{number}", "1", [content])
                    later(registry)
        ended = _killed(place, state, point)
        with Registry.on_objects(open_objects("s3", place), state) as registry:
            with serving(registry) as shop:
                there = [_whole(shop, f"app-{n}", one) for n, one in enumerate(contents)]
                assert there == sorted(there)  # the oldest go first
                later(registry)
                evict(registry)
                registry.collector.collect(-1)
                there = [_whole(shop, f"app-{n}", one) for n, one in enumerate(contents)]
                blobs = {
                    sha(one) for one, is_there in zip(contents, there, strict=True) if is_there
                }
                assert stored(registry) & set(map(sha, contents)) == blobs
                assert sum(there) <= 1
        if ended:
            assert point > 10
            return
    pytest.fail("an eviction has no end")


def test_two_registries_on_one_bucket_forget_for_each_other(
    storages: Storages, liar: LyingRegistry, tmp_path: Path
) -> None:
    images = [shipped() for _ in range(12)]
    limit = 4 * SIZE + 20 * SMALL
    place = storages.place("s3")
    for number, what in enumerate(images):
        push(liar, f"app-{number}", "1", what)
    with postgres() as server, ExitStack() as stack:
        address = server.database()
        caches = []
        for worker in ("one", "two"):
            shared = Shared(address, worker)
            driver = open_objects("s3", place)
            registry = Registry.on_objects(driver, tmp_path / worker, shared=shared)
            caching_one = caching(upstream(liar, max_size=limit), registry=registry)
            caches.append(stack.enter_context(caching_one))

        def turn(number: int) -> None:
            pull(caches[number % 2], f"app-{number // 2}", images[number // 2])

        for start in range(0, 24, 6):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(turn, range(start, start + 6)))
            later(caches[0].registry)
        caches[1].proxy._shared.eviction.enforce()
        whole = [one for one in images if kept(caches[0].registry, one)]
        assert 0 < len(whole) <= 4
        for number, what in enumerate(images):
            pull(caches[number % 2], f"app-{number}", what)


def test_two_that_share_no_rows_forget_nothing_and_refuse_nothing(
    storages: Storages, liar: LyingRegistry, tmp_path: Path
) -> None:
    first, second = shipped(), shipped()
    place = storages.place("s3")
    push(liar, "a", "1", first)
    push(liar, "b", "1", second)
    registry = Registry.on_objects(open_objects("s3", place), tmp_path / "one")
    with (
        Registry.on_objects(open_objects("s3", place), tmp_path / "two"),
        caching(upstream(liar, max_size=SIZE + 8 * SMALL), registry=registry) as cache,
    ):
        pull(cache, "a", first)
        later(registry)
        pull(cache, "b", second)
        assert kept(registry, first)
        assert second.layers[0].digest not in stored(registry)


# --- a storage that fails


@contextmanager
def reached(
    kind: str,
    storages: Storages,
    liar: LyingRegistry,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Cache, Way]]:
    """Serve a cache that reaches its storage by a flaky way."""
    with flaky(storages.port(kind)) as way:
        impatience(monkeypatch, way)
        driver = open_objects(kind, storages.place_by(kind, way.port, monkeypatch))
        registry = Registry.on_objects(driver, state)
        with caching(upstream(liar, prefix="hub/"), registry=registry) as cache:
            try:
                yield cache, way
            finally:
                way.become("good")


MOODS: dict[str, dict[str, Any]] = {
    "away": {"kind": "away"},
    "hang": {"kind": "hang"},
    "503": {"kind": "refuse", "status": 503},
}


@pytest.mark.parametrize("mood", MOODS)
def test_what_the_upstream_has_is_passed_on_while_the_storage_fails(
    kind: str,
    mood: str,
    storages: Storages,
    liar: LyingRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placed, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(placed, "AWAY_SECONDS", 1e9)
    here, new = shipped(), shipped()
    push(liar, "here", "1", here)
    push(liar, "new", "1", new)
    with reached(kind, storages, liar, tmp_path, monkeypatch) as (cache, way):
        pull(cache, "hub/here", here)
        cache.push("mine/app", "1")
        way.become(**MOODS[mood])
        for name, what in (("hub/here", here), ("hub/new", new)):
            pull(cache, name, what)
            answer = cache.manifest(name, what.digest)
            assert answer.body == what.manifest.content
            part = cache.blob(name, what.layers[0].digest, Range="bytes=10-19")
            assert part.body == what.layers[0].content[10:20]
            assert cache.ask("HEAD", f"/v2/{name}/blobs/{what.layers[0].digest}").status == 200
            assert cache.tags(name) == ["1"]
        assert cache.manifest("hub/new", "2").status == 404
        assert cache.manifest("mine/app", "1").status == 503  # nobody else has that
        way.become("good")
        cache.proxy._shared.away = 0.0
        wanted = {new.manifest.digest, *(one.digest for one in new.layers)}
        eventually(lambda: _comes_from_here(cache, liar, "hub/new", new))
        # It comes from a transfer, too, whose end is still being stored.
        eventually(lambda: wanted <= stored(cache.registry))
        eventually(lambda: cache.manifest("mine/app", "1").status == 200)


def _comes_from_here(cache: Cache, liar: LyingRegistry, name: str, what: Image) -> bool:
    """Pull an image; tell whether nothing of it was fetched. A busy storage may be late again."""
    before = liar.log.count("GET", what.layers[0].digest)
    cache.proxy._shared.away = 0.0
    pull(cache, name, what)
    return liar.log.count("GET", what.layers[0].digest) == before


@pytest.mark.parametrize("mood", ["vanish", "hang", "503"])
def test_a_storage_that_goes_amid_a_blob_costs_nobody_a_byte(
    kind: str,
    mood: str,
    storages: Storages,
    liar: LyingRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = os.urandom(12 << 20)
    what = image(layer(content, compression=""))
    push(liar, "large", "1", what)
    with reached(kind, storages, liar, tmp_path, monkeypatch) as (cache, way):
        assert cache.manifest("hub/large", "1").status == 200
        way.become("vanish", after=3 << 20) if mood == "vanish" else way.become(**MOODS[mood])
        path = f"/v2/hub/large/blobs/{what.layers[0].digest}"
        asking = [cache.begin_to_ask("GET", path) for _ in range(2)]
        assert [one.result().body == content for one in asking] == [True, True]
        way.become("good")
        digest = what.layers[0].digest
        # The first to come may still find the transfer that is just being given up.
        eventually(lambda: cache.get(path).body == content and digest in stored(cache.registry))


def test_rows_that_are_away_stop_no_pull(
    storages: Storages, liar: LyingRegistry, tmp_path: Path
) -> None:
    here, new = shipped(), shipped()
    push(liar, "here", "1", here)
    push(liar, "new", "1", new)
    with postgres() as server:
        shared = Shared(server.database(), "one")
        registry = Registry.on_filesystem(str(tmp_path), shared=shared)
        with caching(upstream(liar), registry=registry) as cache:
            pull(cache, "here", here)
            server.stop()
            pull(cache, "here", here)
            pull(cache, "new", new)
            server.start()
            pull(cache, "new", new)
            before = liar.log.count("GET", new.layers[0].digest)
            pull(cache, "new", new)
            assert liar.log.count("GET", new.layers[0].digest) == before


def test_a_slow_storage_is_left_alone_for_a_while(
    storages: Storages, liar: LyingRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placed, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(placed, "AWAY_SECONDS", 1e9)
    what = shipped()
    push(liar, "app", "1", what)
    with reached("s3", storages, liar, tmp_path, monkeypatch) as (cache, way):
        way.become("hang")
        assert cache.manifest("hub/app", "1").status == 200
        assert cache.proxy._shared.is_away
        before = way.connections
        pull(cache, "hub/app", what)
        assert way.connections == before
        way.become("good")
        with pytest.raises(RegistryError):
            cache.registry.manifests.find("hub/app", "1")
