"""Images that were to have a name, and what becomes of them when their maker is killed before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.images.images import ImageUse
from sampan.spec.digest import chain_ids
from sampan.spec.image import parse_config
from sampan.spec.reference import Reference
from tests.image_shop import Shop, run


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def unnamed(shop: Shop, content: bytes, *, awaits_name: bool = True) -> str:
    """Store an image whose maker is killed before it gets a name; return its id."""

    async def make() -> str:
        source = await shop.images.resolve("base:1")
        config = shop.images.store.content.read(source.id).replace(b'"linux"', b'"linux" ')
        config = config.replace(b'{"', b'{"os.version":"' + content + b'","', 1)
        assert list(chain_ids(parse_config(config).diff_ids)) == list(source.chains)
        return (await shop.images.store.add(config, awaits_name=awaits_name)).id

    if "base:1" not in shop.listed():
        shop.make("base:1")
    return asyncio.run(make())


def restart(shop: Shop) -> set[str]:
    """Kill the engine and start another one; return the images that it has."""
    shop.close()
    shop.open()
    run(shop.images.clean())
    return set(shop.images.store.images)


def test_it_goes_at_the_next_start_with_all_that_only_it_needed(shop: Shop) -> None:
    image = unnamed(shop, b"one")
    assert image in shop.blobs()
    assert image not in restart(shop)
    assert image not in shop.blobs()
    assert shop.listed() == ["base:1"]


def test_it_stays_once_it_has_a_name_also_when_it_loses_it(shop: Shop) -> None:
    image = unnamed(shop, b"one")
    run(shop.images.store.tag(image, Reference.parse("app:1")))
    run(shop.images.store.untag(Reference.parse("app:1")))
    assert image in restart(shop)


def test_one_that_was_to_have_none_stays(shop: Shop) -> None:
    image = unnamed(shop, b"one", awaits_name=False)
    assert image in restart(shop)
    other = unnamed(shop, b"two")
    assert unnamed(shop, b"two", awaits_name=False) == other  # and now somebody was told so
    assert {image, other} <= restart(shop)


def test_what_a_container_or_another_image_has_of_it_keeps_it(shop: Shop) -> None:
    image, parent = unnamed(shop, b"one"), unnamed(shop, b"two")
    shop.uses = [ImageUse("box", image, running=False)]
    run(shop.images.store.set_parent(shop.make("child:1", b"child"), parent))
    assert {image, parent} <= restart(shop)
    shop.uses = []
    assert image in restart(shop), "it has been decided"
