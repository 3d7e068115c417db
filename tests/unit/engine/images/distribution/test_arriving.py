"""Layers on their way from a registry: shared, interrupted, broken, and taken up again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from sampan.engine.images.distribution.transfers import TransferLimits
from sampan.errors import SampanError
from sampan.spec.digest import Digest
from tests import lying_registry as lies
from tests.image_shop import DictionaryMounter, Shop
from tests.lying_registry import LyingRegistry
from tests.remote_images import image, push, small_layer
from tests.session import PATIENCE
from tests.transfers import Anchored, messages, pull, short, soon, with_shop

BASE, MIDDLE, TOP = (small_layer(name) for name in ("base", "middle", "top"))


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


@pytest.mark.parametrize("lie", [lies.corrupt, lies.longer, lies.shorter, lies.broken_off])
@pytest.mark.parametrize("mounter", [DictionaryMounter, Anchored])
def test_a_layer_that_is_not_what_it_should_be_leaves_nothing(
    liar: LyingRegistry, tmp_path: Path, lie: lies.Lie, mounter: type[DictionaryMounter]
) -> None:
    what = image(BASE, TOP)
    push(liar, "a/img", "v1", what)
    liar.lie("GET", TOP.digest, lie)
    snapshots = mounter()

    async def work(shop: Shop) -> None:
        with pytest.raises(SampanError):
            await pull(shop, f"{liar.address}/a/img:v1")
        assert shop.images.store.images == {}
        left = {*shop.images.store.layers.chains, *snapshots.staged}
        assert not any(TOP.diff_id[7:] in one for one in left)
        assert not any(TOP.digest[7:] in one for one in left)
        liar.be_honest()
        await pull(shop, f"{liar.address}/a/img:v1")
        assert list(shop.images.store.images) == [what.id]

    with_shop(tmp_path, work, mounter=snapshots)


# --- interrupted, and at once ----------------------------------------------------------------


def test_the_next_attempt_goes_on_from_what_was_complete(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, MIDDLE, TOP)
    push(liar, "a/img", "v1", what)
    hold = threading.Event()
    liar.lie("GET", MIDDLE.digest, lies.held_until(hold))

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        async with aclosing(messages(shop, "pull", name, "", None)) as said:
            async for message in said:
                if (message.status, message.id) == ("Pull complete", short(BASE.digest)):
                    break
            await soon(lambda: len(shop.images.store.layers.waiting()) == 1)  # the top one
        assert shop.images.store.images == {}
        hold.set()
        liar.be_honest()
        liar.log.clear()
        await pull(shop, name)
        assert liar.log.count("GET", MIDDLE.digest) == 1
        assert liar.log.count("GET", BASE.digest) == liar.log.count("GET", TOP.digest) == 0
        assert list(shop.images.store.images) == [what.id]
        assert shop.images.store.layers.waiting() == []

    with_shop(tmp_path, work)


def test_what_was_complete_is_found_after_a_restart(liar: LyingRegistry, tmp_path: Path) -> None:
    push(liar, "a/img", "v1", image(BASE, MIDDLE, TOP))
    liar.lie("GET", MIDDLE.digest, lies.status(404, "BLOB_UNKNOWN"))
    mounter = DictionaryMounter()

    async def first(shop: Shop) -> None:
        with pytest.raises(SampanError):
            await pull(shop, f"{liar.address}/a/img:v1")

    async def second(shop: Shop) -> None:
        await shop.images.collect()
        liar.be_honest()
        liar.log.clear()
        await pull(shop, f"{liar.address}/a/img:v1")
        complete = 2 - (liar.log.count("GET", BASE.digest) + liar.log.count("GET", TOP.digest))
        assert complete == before

    with_shop(tmp_path, first, mounter=mounter)
    before = len(mounter.staged) + len(mounter.committed)
    with_shop(tmp_path, second, mounter=mounter)


def test_pulls_of_the_same_layer_share_one_download(liar: LyingRegistry, tmp_path: Path) -> None:
    push(liar, "a/img", "v1", image(BASE, TOP))
    push(liar, "b/img", "v1", image(BASE, MIDDLE))
    go = threading.Event()
    liar.lie("GET", BASE.digest, lies.held_until(go, 10))

    async def work(shop: Shop) -> None:
        said: list[list[tuple[str, str]]] = [[], [], []]

        async def listen(place: int, name: str) -> None:
            async for message in messages(shop, "pull", f"{liar.address}/{name}", "", None):
                said[place].append((message.status, message.id))

        pulls = []
        for place, name in enumerate(("a/img:v1", "b/img:v1", "a/img:v1")):
            pulls.append(asyncio.ensure_future(listen(place, name)))
            told = ("Downloading", short(BASE.digest))
            await soon(lambda place=place, told=told: told in said[place])  # type: ignore[misc]
        go.set()
        await asyncio.gather(*pulls)
        assert all(("Pull complete", short(BASE.digest)) in each for each in said)
        assert liar.log.count("GET", BASE.digest) == 1
        assert len(shop.images.store.images) == 2

    with_shop(tmp_path, work)


def test_who_leaves_ends_a_download_only_if_nobody_else_waits_for_it(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE)
    push(liar, "a/img", "v1", what)
    go = threading.Event()
    liar.lie("GET", BASE.digest, lies.held_until(go, 10))

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        first = asyncio.ensure_future(pull(shop, name))
        await soon(lambda: liar.log.count("GET", BASE.digest) == 1)
        async with aclosing(messages(shop, "pull", name, "", None)) as second:
            async for message in second:
                if message.status == "Downloading":
                    break
            first.cancel()
            await asyncio.wait([first])
            go.set()
            async for message in second:
                last = message.status
        assert last == f"Status: Downloaded newer image for {name}"
        assert liar.log.count("GET", BASE.digest) == 1
        assert list(shop.images.store.images) == [what.id]

    with_shop(tmp_path, work)


@pytest.mark.parametrize("mounter", [DictionaryMounter, Anchored])
def test_a_cancelled_pull_stops_at_once_and_leaves_nothing_half(
    liar: LyingRegistry, tmp_path: Path, mounter: type[DictionaryMounter]
) -> None:
    push(liar, "a/img", "v1", image(BASE))
    go = threading.Event()
    liar.lie("GET", BASE.digest, lies.held_until(go, 10))
    snapshots = mounter()

    async def work(shop: Shop) -> None:
        pulling = asyncio.ensure_future(pull(shop, f"{liar.address}/a/img:v1"))
        await soon(lambda: liar.log.count("GET", BASE.digest) == 1)
        pulling.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([pulling])
        assert snapshots.staged == {}
        assert shop.images.store.layers.leases == {}
        go.set()

    with_shop(tmp_path, work, mounter=snapshots)


def test_no_more_layers_are_fetched_at_once_than_allowed(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(*(small_layer(str(number)) for number in range(5)))
    push(liar, "a/img", "v1", what)
    go = threading.Event()
    for each in what.layers:
        liar.lie("GET", each.digest, lies.held_until(go))

    async def work(shop: Shop) -> None:
        pulling = asyncio.ensure_future(pull(shop, f"{liar.address}/a/img:v1"))
        await soon(lambda: liar.log.count("GET", "blobs") == 3)  # the configuration is one
        go.set()
        said = await pulling
        assert sum(line.endswith(": Waiting") for line in said) == 3

    with_shop(tmp_path, work, limits=TransferLimits(downloads=2))


def test_a_layer_of_an_image_that_is_here_is_not_fetched_for_another_place(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    push(liar, "a/img", "v1", image(BASE, TOP))
    push(liar, "b/img", "v1", image(TOP))

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await pull(shop, f"{liar.address}/b/img:v1")
        assert liar.log.count("GET", TOP.digest) == 1

    with_shop(tmp_path, work)


def test_a_layer_that_a_load_brings_at_the_same_time_is_taken_from_there(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE)
    push(liar, "a/img", "v1", what)
    liar.lie("GET", BASE.digest, lies.held_until(threading.Event(), 10))

    async def work(shop: Shop) -> None:
        go = asyncio.Event()

        async def archive() -> AsyncIterator[bytes]:
            yield BASE.content[:20]
            await go.wait()
            yield BASE.content[20:]

        layers = shop.images.store.layers
        loading = asyncio.ensure_future(layers.stage(archive(), Digest(BASE.digest)))
        await asyncio.sleep(0)
        pulling = asyncio.ensure_future(pull(shop, f"{liar.address}/a/img:v1"))
        await soon(lambda: liar.log.count("GET", BASE.digest) == 1)
        go.set()
        await loading
        async with asyncio.timeout(PATIENCE):
            await pulling
        assert list(shop.images.store.images) == [what.id]

    with_shop(tmp_path, work)


class Forgetful(DictionaryMounter):
    """A mounter whose first staged layer goes before it is put anywhere."""

    forgotten = False

    def commit(self, key: str, chain_id: str, parent: str | None) -> None:
        if not self.forgotten:
            self.forgotten = True
            del self.staged[key]
        super().commit(key, chain_id, parent)


def test_a_layer_that_others_put_elsewhere_and_removed_is_fetched_again(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE)
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        assert liar.log.count("GET", BASE.digest) == 2
        assert list(shop.images.store.images) == [what.id]

    with_shop(tmp_path, work, mounter=Forgetful())
