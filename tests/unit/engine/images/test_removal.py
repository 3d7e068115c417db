"""Removing images that stand for several platforms, and images that came from a registry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sampan.engine.images.model import ImageUse, Source
from sampan.errors import Conflict, NotFound
from sampan.spec.digest import Digest
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from tests import tarballs
from tests.image_shop import Shop, run, stream
from tests.layouts import Layout
from tests.tarballs import archive, file

BASE, TOP, OTHER = (archive(file(name, name.encode() * 99)) for name in ("base", "top", "other"))
AMD, ARM = Platform.parse("amd64"), Platform.parse("arm64")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def layout() -> Layout:
    layout = Layout()
    amd, arm = layout.image(BASE, TOP), layout.image(BASE, OTHER, architecture="arm64")
    layout.name(layout.index(amd, arm, layout.attestation(amd)), "docker.io/library/app:1")
    return layout


@pytest.fixture
def index(shop: Shop, layout: Layout) -> str:
    """An image of two platforms, app:1, as a pull leaves it; its digest."""
    shop.load(layout.archive())
    digest: str = layout.manifests[0]["digest"]
    image = run(shop.images.resolve("app:1"))
    by_digest = Reference.parse(f"app@{digest}")
    run(shop.images.store.tag(image.id, by_digest, Digest(digest)))
    return digest


def empty(shop: Shop) -> bool:
    return not (shop.blobs() or shop.mounter.committed or shop.mounter.staged)


def ids(shop: Shop) -> dict[Platform, str]:
    return {it: run(shop.images.resolve("app:1", it)).id for it in (AMD, ARM)}


def test_the_last_tag_takes_the_digest_and_all_platforms_with_it(shop: Shop, index: str) -> None:
    both = ids(shop)
    done = shop.remove("app:1")
    assert done[:2] == ["Untagged: app:1", f"Untagged: app@{index}"]
    assert {f"Deleted: {both[AMD]}", f"Deleted: {both[ARM]}"} <= set(done)
    assert len([line for line in done if line.startswith("Deleted: ")]) == 2 + 3
    assert empty(shop)


class Killed(BaseException):
    """The engine is gone: nothing is written any more."""


@pytest.mark.parametrize("writes", range(10))
@pytest.mark.parametrize("how", ["name", "id", "prune"])
def test_a_removal_that_is_killed_at_any_write_has_removed_all_or_nothing(
    shop: Shop, index: str, how: str, writes: int
) -> None:
    before, both = shop.listed(), ids(shop)
    kill_after(shop, writes)
    with suppress(Killed):
        if how == "prune":
            run(shop.images.prune({"dangling": ["false"]}))
        else:
            shop.remove("app:1" if how == "name" else both[AMD], force=True)
    shop.close()
    shop.open()
    run(shop.images.clean())
    if not empty(shop):
        assert shop.listed() == before
        assert len(shop.images.references(both[ARM])) == 2


def kill_after(shop: Shop, writes: int) -> None:
    """Let the engine end before it writes to its database once more than so often."""
    database = shop.images.store._database
    write, left = database._write, iter(range(writes))

    def dying(*statements: Any) -> None:
        if next(left, None) is None:
            raise Killed
        write(*statements)

    database._write = dying  # type: ignore[method-assign]


def test_an_image_without_a_name_that_a_container_has_used_stays_after_a_restart(
    shop: Shop,
) -> None:
    image = shop.make("app")
    shop.uses.append(ImageUse("c" * 64, image, running=True))
    shop.remove("app", force=True)
    assert image in shop.images.store.images
    shop.uses.clear()
    shop.close()
    shop.open()
    run(shop.images.clean())
    assert image in shop.images.store.images


def test_the_digest_stays_while_another_tag_of_its_repository_does(shop: Shop, index: str) -> None:
    run(shop.images.tag("app:1", "app", "2"))
    assert shop.remove("app:1") == ["Untagged: app:1"]
    run(shop.images.tag("app:2", "other", ""))
    assert shop.remove("app:2") == ["Untagged: app:2", f"Untagged: app@{index}"]
    assert shop.images.store.target_of(Reference.parse("other")) == index
    assert shop.remove("other")[0] == "Untagged: other:latest"
    assert empty(shop)


def test_a_name_by_digest_goes_alone(shop: Shop, index: str) -> None:
    assert shop.remove(f"app@{index}") == [f"Untagged: app@{index}"]
    assert shop.listed() == ["app:1"]


def test_an_index_is_removed_by_its_digest(shop: Shop, index: str) -> None:
    done = shop.remove(index)
    assert done[:2] == ["Untagged: app:1", f"Untagged: app@{index}"]
    assert empty(shop)


def test_an_index_of_two_tags_is_removed_by_its_digest_only_by_force(
    shop: Shop, index: str
) -> None:
    run(shop.images.tag("app:1", "app", "2"))
    with pytest.raises(Conflict, match="referenced in multiple repositories"):
        shop.remove(index)
    shop.remove(index, force=True)
    assert empty(shop)


def test_one_platform_goes_and_the_names_stay(
    shop: Shop, index: str, layout: Layout, tmp_path: Path
) -> None:
    both = ids(shop)
    done = shop.remove("app:1", platforms=[AMD])
    assert done == [f"Deleted: {both[AMD]}", f"Deleted: {tarballs.chain(BASE, TOP)}"]
    for _ in range(2):
        assert shop.listed() == ["app:1"]
        assert run(shop.images.resolve("app:1")).id == both[ARM]
        assert f"app@{index}" in [str(it.familiar) for it in shop.images.references(both[ARM])]
        shop.close()
        shop.open()
    with pytest.raises(NotFound, match="does not match the specified platform"):
        shop.remove("app:1", platforms=[AMD])
    assert shop.load(layout.archive()) == ["Loaded image: app:1"]
    assert ids(shop) == both


def test_the_last_platform_takes_the_names_with_it(shop: Shop, index: str) -> None:
    shop.remove("app:1", platforms=[ARM])
    assert shop.remove("app:1", platforms=[AMD])[:2] == [
        "Untagged: app:1",
        f"Untagged: app@{index}",
    ]
    assert empty(shop)


def test_all_platforms_at_once_are_the_image(shop: Shop, index: str) -> None:
    assert shop.remove("app:1", platforms=[AMD, ARM])[0] == "Untagged: app:1"
    assert empty(shop)


def test_an_id_of_one_platform_means_that_platform(shop: Shop, index: str) -> None:
    both = ids(shop)
    assert shop.remove(both[ARM])[0] == f"Deleted: {both[ARM]}"
    assert run(shop.images.resolve("app:1")).id == both[AMD]


def test_a_container_on_one_platform_keeps_it(shop: Shop, index: str) -> None:
    both = ids(shop)
    shop.uses.append(ImageUse("c" * 64, both[ARM], running=True))
    with pytest.raises(Conflict, match=r"cannot be forced.*used by running container"):
        shop.remove("app:1", platforms=[ARM], force=True)
    with pytest.raises(Conflict, match="unable to remove repository reference"):
        shop.remove("app:1")
    shop.remove("app:1", platforms=[AMD])
    assert shop.listed() == ["app:1"]


def test_prune_takes_all_platforms_and_tells_every_byte(shop: Shop, index: str) -> None:
    content = shop.images.store.content
    size = shop.images.layers_size() + sum(content.size(digest) for digest in content)
    report = run(shop.images.prune({"dangling": ["false"]}))
    assert report.space_reclaimed == size
    assert empty(shop)


def test_where_layers_came_from_goes_with_them(shop: Shop, index: str) -> None:
    layers = shop.images.store.layers
    source = Source("registry.example/app", Digest(tarballs.digest(b"x")), 1, "x")
    run(layers.note_source(tarballs.digest(TOP), source))
    assert layers.sources(tarballs.digest(TOP)) == [source]
    shop.close()
    shop.open()
    layers = shop.images.store.layers
    assert layers.sources(tarballs.digest(TOP)) == [source]
    assert layers.diff_id_of(source.digest) == tarballs.digest(TOP)
    shop.remove("app:1")
    assert layers.sources(tarballs.digest(TOP)) == []
    assert layers.diff_id_of(source.digest) is None


# --- while something else comes in ------------------------------------------------------------


def test_layers_go_at_once_while_others_come_in(shop: Shop, index: str) -> None:
    async def both() -> list[str]:
        async with shop.images.store.intake():
            return [item.deleted for item in await shop.images.remove("app:1") if item.deleted]

    gone = run(both())
    assert {tarballs.chain(BASE, TOP), tarballs.chain(BASE, OTHER), tarballs.digest(BASE)} <= {
        *gone
    }
    assert empty(shop)


def test_layers_that_something_relies_on_stay_and_go_later(shop: Shop, index: str) -> None:
    async def both() -> None:
        store = shop.images.store
        async with store.intake():
            with store.layers.wanted([Digest(tarballs.chain(BASE, TOP))]):
                await shop.images.remove("app:1")
                assert set(shop.mounter.committed) == {
                    tarballs.digest(BASE),
                    tarballs.chain(BASE, TOP),
                }
        assert empty(shop)

    run(both())


def test_a_prune_while_something_comes_in_tells_what_it_removed(shop: Shop, index: str) -> None:
    async def both() -> None:
        async with shop.images.store.intake():
            report = await shop.images.prune({"dangling": ["false"]})
            assert report.space_reclaimed == sum(map(len, (BASE, TOP, OTHER)))

    run(both())
    assert empty(shop)


def test_an_image_that_is_saved_is_saved_to_its_end(shop: Shop, index: str) -> None:
    whole = shop.save("app:1")

    async def both() -> bytes:
        saved = shop.images.save(["app:1"])
        first = await anext(saved)
        await shop.images.remove("app:1")
        return first + b"".join([piece async for piece in saved])

    assert run(both()) == whole
    assert empty(shop)


def test_a_layer_that_is_being_removed_comes_back_after_it(shop: Shop, index: str) -> None:
    """A load of what is just being removed: the removal is waited for, nothing half stays."""
    content = Layout()
    content.name(content.image(BASE, TOP), "docker.io/library/app:1")

    async def both() -> None:
        removal = asyncio.ensure_future(shop.images.remove("app:1"))
        for _ in range(20):
            await asyncio.sleep(0)
        async for _ in shop.images.load(stream(content.archive())):
            pass
        await asyncio.wait([removal])

    run(both())
    assert run(shop.images.check()).problems == []
    assert shop.listed() in (["app:1"], [])


def test_documents_that_no_name_stands_for_go_when_a_name_moves(shop: Shop, index: str) -> None:
    run(shop.images.tag("app:1", "app", "2"))
    shop.remove(f"app@{index}")
    shop.make("made")
    run(shop.images.tag("made", "app", "1"))
    assert index in shop.blobs()
    run(shop.images.tag("made", "app", "2"))
    assert index not in shop.blobs()
    kinds = {problem.kind for problem in run(shop.images.check()).problems}
    assert kinds == set()
