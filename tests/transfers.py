"""Pulls and pushes in tests: a shop whose client speaks to registries on the loopback network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sampan.distribution.config import RegistryConfig
from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.engine.images.reports import Messages
from sampan.http.proxies import Proxies
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from tests.image_shop import DictionaryMounter, Shop
from tests.session import PATIENCE


@asynccontextmanager
async def open_shop(root: Path, **options: Any) -> AsyncIterator[Shop]:
    """Give a shop that can pull and push."""
    root.mkdir(exist_ok=True)
    config = RegistryConfig(backoff_seconds=0.01, max_attempts=2, proxies=Proxies())
    async with Registries(config) as registries:
        shop = Shop(root, registries=registries, **options)
        try:
            yield shop
        finally:
            shop.close()


def with_shop(
    root: Path, work: Callable[[Shop], Coroutine[Any, Any, None]], **options: Any
) -> None:
    """Do `work` with a shop."""

    async def main() -> None:
        async with open_shop(root, **options) as shop:
            await work(shop)

    asyncio.run(main())


async def soon(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


def messages(shop: Shop, verb: str, name: str, platform: str, credentials: Any) -> Messages:
    ask = shop.images.pull if verb == "pull" else shop.images.push
    wanted = Platform.parse(platform) if platform else None
    return ask(Reference.parse(name), platform=wanted, credentials=credentials)


async def pull(
    shop: Shop, name: str, platform: str = "", credentials: Credentials | None = None
) -> list[str]:
    """Pull, and return what docker's CLI prints where there is no terminal."""
    return [
        line async for m in messages(shop, "pull", name, platform, credentials) if (line := show(m))
    ]


async def push(
    shop: Shop, name: str, platform: str = "", credentials: Credentials | None = None
) -> list[str]:
    """Push, and return what docker's CLI prints where there is no terminal."""
    return [
        line async for m in messages(shop, "push", name, platform, credentials) if (line := show(m))
    ]


def show(message: ProgressMessage) -> str:
    """Return a message as a line; "" for progress, which needs a terminal."""
    if message.progress or message.aux is not None:
        return ""
    return f"{message.id}: {message.status}" if message.id else message.status


def short(digest: str) -> str:
    """Return the twelve digits that are shown."""
    return digest[7:19]


class Anchored(DictionaryMounter):
    """A driver whose layers need their parents, as vfs."""

    def layers_stand_alone(self) -> bool:
        return False
