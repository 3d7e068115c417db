"""Layers on their way in: staged, leased, put on their parents, and read back."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.engine.images.holds import LEASE
from sampan.engine.images.layers import chain_of
from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.spec.digest import Digest
from sampan.storage.linux_mounter import LinuxMounter
from tests.image_shop import Shop, run, stream
from tests.layouts import Layout, packed
from tests.session import PATIENCE
from tests.tarballs import archive, digest, file

BASE, TOP, OTHER = (archive(file(n, n.encode() * 5000)) for n in ("base", "top", "other"))
BASE_ID, TOP_ID = Digest(digest(BASE)), Digest(digest(TOP))
BLOB = Digest(digest(packed(BASE)))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def restart(shop: Shop) -> None:
    shop.close()
    shop.open()
    run(shop.images.collect())


async def broken(content: bytes) -> AsyncIterator[bytes]:
    yield content
    raise ConnectionResetError


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(1 << 16)
        await asyncio.sleep(0)


async def text(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


# --- staging -------------------------------------------------------------------------------


def test_a_staged_layer_is_found_by_the_digest_it_came_under(shop: Shop) -> None:
    async def stage() -> None:
        layers = shop.images.store.layers
        async with shop.images.store.intake():
            staged = await layers.stage(stream(packed(BASE)), BLOB)
            assert (staged.diff_id, staged.plain_size) == (BASE_ID, len(BASE))
            assert layers.staged(BLOB) == layers.staged(BLOB, BASE_ID) == staged
            assert layers.staged(BLOB, TOP_ID) is None
            assert await layers.stage(broken(b"is not read"), BLOB) == staged

    run(stage())
    assert shop.mounter.unpacked == [f"staged-{BLOB[7:]}"]


def test_what_was_staged_waits_for_a_day_and_outlasts_restarts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stage() -> None:
        async with shop.images.store.intake():
            await shop.images.store.layers.stage(stream(packed(BASE)), BLOB)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run(stage())
    for _ in range(2):
        restart(shop)
        assert shop.images.store.layers.staged(BLOB, BASE_ID)
    now = shop.images.store.layers.leases[f"staged-{BLOB[7:]}"]
    monkeypatch.setattr("time.time_ns", lambda: now + LEASE)
    restart(shop)
    assert shop.images.store.layers.staged(BLOB) is None
    assert shop.mounter.staged == {}


def test_a_prune_ends_the_waiting(shop: Shop) -> None:
    async def stage() -> None:
        async with shop.images.store.intake():
            layers = shop.images.store.layers
            await layers.commit(await layers.stage(stream(BASE), BASE_ID), None)
            await layers.stage(stream(TOP), TOP_ID)

    run(stage())
    run(shop.images.collect())
    assert (len(shop.mounter.staged), len(shop.mounter.committed)) == (1, 1)
    assert run(shop.images.prune({})).space_reclaimed == len(BASE) + len(TOP)
    assert shop.mounter.staged == shop.mounter.committed == {}
    assert shop.images.store.layers.leases == {}


def test_a_layer_without_a_digest_goes_with_its_intake(shop: Shop) -> None:
    async def stage() -> None:
        async with shop.images.store.intake():
            await shop.images.store.layers.stage(stream(BASE))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run(stage())
    assert shop.mounter.staged == {}


@pytest.mark.parametrize("content", [packed(BASE)[:50], BASE, b""])
def test_a_source_that_fails_is_told_as_such_and_leaves_nothing(shop: Shop, content: bytes) -> None:
    with pytest.raises(ConnectionResetError):
        run(shop.images.store.layers.stage(broken(content), BLOB))
    assert shop.mounter.staged == {}
    assert shop.images.store.layers.staged(BLOB) is None


def test_an_archive_that_is_broken_is_told(shop: Shop) -> None:
    with pytest.raises(InvalidArgument, match="gzip"):
        run(shop.images.store.layers.stage(stream(packed(BASE)[:50]), BLOB))


def test_a_cancelled_caller_leaves_nothing(shop: Shop) -> None:
    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await shop.images.store.layers.stage(endless(), BLOB)

    run(cancelled())
    assert shop.mounter.staged == {}


def test_two_at_once_read_one_archive(shop: Shop) -> None:
    async def both() -> None:
        layers = shop.images.store.layers
        one, two = await asyncio.gather(
            layers.stage(stream(BASE), BASE_ID), layers.stage(stream(BASE), BASE_ID)
        )
        assert one == two

    run(both())
    assert len(shop.mounter.unpacked) == 1


# --- places --------------------------------------------------------------------------------


def test_a_layer_lies_on_several_parents_and_comes_out_again(shop: Shop) -> None:
    async def commit() -> None:
        layers = shop.images.store.layers
        async with shop.images.store.intake():
            base = await layers.commit(await layers.stage(stream(BASE), BASE_ID), None)
            staged = await layers.stage(stream(packed(TOP)), TOP_ID)
            both = await layers.commit(staged, base)
            assert both == chain_of(base, TOP_ID)
            assert await layers.commit(staged, base) == both  # nothing to do
            alone = await layers.commit(staged, None)  # another intake had the same layer
            assert alone == TOP_ID
            async with layers.packed(TOP_ID) as pieces:
                assert await text(pieces) == TOP
        with pytest.raises(NotFound):
            async with layers.packed(digest(b"nowhere")):
                pass

    run(commit())
    assert len(shop.mounter.committed) == 3
    assert shop.mounter.staged == {}


def test_three_at_once_put_one_staged_layer_on_three_parents(shop: Shop) -> None:
    async def commit() -> None:
        layers = shop.images.store.layers
        async with shop.images.store.intake():
            below = [
                await layers.commit(
                    await layers.stage(stream(content), Digest(digest(content))), None
                )
                for content in (BASE, OTHER)
            ]
            staged = await layers.stage(stream(TOP), TOP_ID)
            parents = [None, *below]
            placed = await asyncio.gather(*(layers.commit(staged, it) for it in parents))
            assert placed == [chain_of(parent, TOP_ID) for parent in parents]

    run(commit())
    assert len(shop.mounter.committed) == 5
    assert shop.mounter.staged == {}


def test_a_commit_that_fails_takes_nothing_from_another_of_the_same_layer(shop: Shop) -> None:
    commit, began, failed = shop.mounter.commit, threading.Event(), threading.Event()
    calls = []

    def first_fails(key: str, chain_id: str, parent: str | None) -> None:
        calls.append(key)
        if len(calls) == 1:
            began.wait(0.2)  # for the other, if it does not wait for this one
            raise Unavailable("the helper has ended")
        began.set()
        failed.wait(PATIENCE)
        commit(key, chain_id, parent)

    async def both() -> None:
        layers = shop.images.store.layers
        async with shop.images.store.intake():
            one = await layers.stage(stream(TOP), TOP_ID)
            two = await layers.stage(stream(packed(TOP)), Digest(digest(packed(TOP))))
            shop.mounter.commit = first_fails
            bad = asyncio.ensure_future(layers.commit(one, None))
            bad.add_done_callback(lambda _: failed.set())
            good = asyncio.ensure_future(layers.commit(two, None))
            await asyncio.wait([bad, good])
            assert isinstance(bad.exception(), Unavailable)
            assert good.result() == TOP_ID

    run(both())
    restart(shop)
    assert TOP_ID in shop.images.store.layers.chains


def test_an_image_takes_over_the_leases_on_its_layers(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE, TOP), "docker.io/library/app:1")
    shop.load(layout.archive())
    run(shop.images.collect())
    assert shop.images.store.layers.leases == {}


# --- databases of older engines --------------------------------------------------------------


def test_a_database_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    content = packed(BASE)
    shop = Shop(tmp_path)
    image = run(shop.images.import_(stream(BASE), None))
    blob = shop.images.store.content.add(content)
    run(shop.images.tag(image, "app", "1"))
    shop.close()
    with sqlite3.connect(tmp_path / "database.sqlite") as database:
        database.executescript(
            "DROP TABLE layer_sources; DROP TABLE leases;"
            "ALTER TABLE image_references DROP COLUMN target; PRAGMA user_version = 1"
        )
        database.execute(
            "UPDATE image_layers SET blob = ?, blob_size = ?, media_type = 'x'",
            (blob, len(content)),
        )
    database.close()

    def forgotten(chain: str, _: object) -> None:
        raise NotFound(f"layer {chain} has no recipe")

    shop.mounter.pack_layer = forgotten
    shop.open()
    try:
        run(shop.images.collect())
        assert shop.listed() == ["app:1"]
        assert BASE in shop.save("app:1")
        shop.remove("app:1")
        assert shop.blobs() == set()
    finally:
        shop.close()


# --- drivers -------------------------------------------------------------------------------


@pytest.mark.privileged
def test_every_driver_saves_the_same_bytes(tmp_path: Path) -> None:
    layout = Layout()
    amd, arm = layout.image(BASE, TOP), layout.image(BASE, architecture="arm64")
    layout.name(layout.index(amd, arm), "docker.io/library/app:1")
    saved = []
    for driver in ("overlay", "vfs"):
        root = tmp_path / driver
        root.mkdir()
        mounter = LinuxMounter(root, driver)
        shop = Shop(root, mounter)
        try:
            shop.load(layout.archive())
            saved.append(shop.save("app:1"))
            assert run(shop.images.check()).problems == []
            assert shop.load(saved[0]) == ["Loaded image: app:1"]
            shop.remove("app:1")
            assert mounter.snapshots() == []
        finally:
            shop.close()
            mounter.close()
    assert saved[0] == saved[1]


def test_a_collection_that_fails_does_not_hide_why_an_intake_failed(shop: Shop) -> None:
    def unavailable() -> list[object]:
        raise Unavailable("the helper is gone")

    async def fail() -> None:
        async with shop.images.store.intake():
            await shop.images.store.layers.stage(stream(BASE), BASE_ID)
            shop.mounter.snapshots = unavailable
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run(fail())
    del shop.mounter.snapshots
    shop.make("app")  # the next intake cleans up
    assert shop.listed() == ["app:latest"]
