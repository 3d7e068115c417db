"""Asking registries under test with our own client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sampan.distribution.config import RegistryConfig
from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.http.limits import ClientLimits
from sampan.http.proxies import Proxies
from sampan.spec.image import Descriptor
from sampan.spec.reference import Reference
from tests.remote_images import Blob
from tests.scripted import nothing_leaks

LIMITS = ClientLimits(
    connect_seconds=2.0,
    answer_seconds=2.0,
    document_seconds=2.0,
    stall_seconds=0.3,
    stall_bytes=64,
)


def config(**settings: Any) -> RegistryConfig:
    """Return settings for tests: short waits, nothing of the host."""
    given: dict[str, Any] = {
        "certificates": (),
        "backoff_seconds": 0.001,
        "limits": LIMITS,
        "proxies": Proxies(),
    }
    return RegistryConfig(**{**given, **settings})


def ask(work: Callable[[Registries], Awaitable[Any]], **settings: Any) -> Any:
    """Return what `work` returns; nothing may be left after it."""

    async def main() -> Any:
        async with Registries(config(**settings)) as registries:
            return await work(registries)

    with nothing_leaks():
        return asyncio.run(main())


def with_repository(
    name: str,
    work: Callable[[Repository], Awaitable[Any]],
    credentials: Credentials | None = None,
    push: bool = False,
    **settings: Any,
) -> Any:
    """Return what `work` returns of a repository."""
    reference = Reference.parse(name)

    async def do(registries: Registries) -> Any:
        return await work(registries.repository(reference, credentials, push=push))

    return ask(do, **settings)


def descriptor(blob: Blob, **fields: Any) -> Descriptor:
    """Return the descriptor of a blob, or one that lies."""
    given = {"media_type": blob.media_type, "digest": blob.digest, "size": len(blob.content)}
    return Descriptor(**{**given, **fields})


async def fetched(repository: Repository, what: Descriptor, folder: Path) -> bytes:
    """Return a blob by way of a file; what has been written stays in `folder`."""
    path = folder / "blob"
    told: list[int] = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        await repository.fetch_blob(what, fd, told.append)
    finally:
        assert os.fstat(fd).st_size == sum(told) <= what.size
        os.close(fd)
    return path.read_bytes()


def reader(content: bytes, piece: int = 100_000) -> Callable[[int], bytes]:
    """Return a function that reads `content` piece by piece."""
    left = memoryview(content)

    def read(size: int) -> bytes:
        nonlocal left
        data, left = bytes(left[: min(size, piece)]), left[min(size, piece) :]
        return data

    return read
