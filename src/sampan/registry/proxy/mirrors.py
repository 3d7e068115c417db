"""Mirroring: what is to be here before anybody asks, fetched at its times."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sampan.distribution.registries import Registries
from sampan.errors import SampanError, Unavailable
from sampan.registry import names
from sampan.registry.errors import RegistryError
from sampan.registry.proxy.arriving import Arriving
from sampan.registry.proxy.cached import CachedRepository
from sampan.registry.proxy.schedules import Mirroring, is_pattern, matches
from sampan.registry.proxy.upstreams import Place, Upstream
from sampan.spec.digest import Digest
from sampan.spec.image import Descriptor, parse_document

log = logging.getLogger(__name__)
LOOK_SECONDS = 600.0  # between looks at the time of day
DEPTH = 4  # of indexes within indexes


@dataclass
class Round:
    """What one round did."""

    tags: int = 0
    failures: int = 0


class Cache(Protocol):
    """What is filled: `Proxy`."""

    def cached(self, place: Place, may_read: Callable[[str], bool]) -> CachedRepository:
        """Return the repository at a place, for a client who may read some others."""

    def client(self, name: str) -> Registries:
        """Return the client of an upstream."""


class Mirror:
    """Mirrors some repositories of one upstream."""

    def __init__(self, cache: Cache, upstream: Upstream, mirroring: Mirroring) -> None:
        self._cache = cache
        self._upstream = upstream
        self._mirroring = mirroring

    async def run(self) -> None:
        """Go round for ever; with an interval, at once for the first time."""
        if self._mirroring.cron:
            await self._wait()
        while True:
            done = await self.once()
            log.info(
                "mirrored %d tags of %s, %d failures", done.tags, self._upstream.name, done.failures
            )
            await self._wait()

    async def _wait(self) -> None:
        if self._mirroring.interval:
            await asyncio.sleep(self._mirroring.interval)
            return
        due = self._next()
        while (left := due - datetime.now().timestamp()) > 0:
            await asyncio.sleep(min(left, LOOK_SECONDS))
            # The clock may have been set; back, that is, for a time that it passed over counts.
            due = min(due, self._next())

    def _next(self) -> float:
        now = datetime.now().astimezone()
        return now.timestamp() + self._mirroring.wait(now)

    async def once(self) -> Round:
        """Go round once. What fails is logged, and left for the next round."""
        done = Round()
        try:
            found = await self._names()
        except SampanError as error:
            log.error("%s lists no repositories: %s", self._upstream.name, error)
            return Round(failures=1)
        for name in found:
            place = Place(self._upstream.prefix + name, self._upstream, name)
            cached = self._cache.cached(place, lambda _: False)
            await self._repository(cached, done)
        return done

    async def _names(self) -> list[str]:
        """Return the repositories to mirror; only patterns need the upstream's catalog."""
        wanted = self._mirroring.repositories
        patterns = [name for name in wanted if is_pattern(name)]
        found = [name for name in wanted if not is_pattern(name)]
        if patterns:
            client = self._cache.client(self._upstream.name)
            credentials = await self._upstream.login.credentials()
            known = set(found)
            for name in await client.catalog(self._upstream.endpoint, credentials):
                if name not in known and self._is_name(name) and matches(name, patterns):
                    known.add(name)
                    found.append(name)
        return found

    def _is_name(self, name: str) -> bool:
        """Tell whether a repository can be called so here: what an upstream lists may be a path."""
        return names.is_repository(self._upstream.prefix + name)

    async def _repository(self, cached: CachedRepository, done: Round) -> None:
        name = cached.place.repository
        wanted = self._mirroring.tags
        try:
            tags = [tag for tag in wanted if not is_pattern(tag)]
            if any(is_pattern(tag) for tag in wanted):
                there = await cached.tags()
                if there is None:
                    raise Unavailable("its tags cannot be listed")
                tags = [tag for tag in there if names.is_tag(tag) and matches(tag, wanted)]
        except (RegistryError, SampanError, OSError, sqlite3.Error) as error:
            log.error("%s is not mirrored: %s", name, error)
            done.failures += 1
            return
        for tag in tags:
            try:
                await self._pull(cached, tag)
            except (RegistryError, SampanError, OSError, sqlite3.Error) as error:
                log.error("%s:%s is not mirrored: %s", name, tag, error)
                done.failures += 1
            else:
                done.tags += 1

    async def _pull(self, cached: CachedRepository, reference: str, depth: int = 0) -> None:
        """Bring a manifest, and all that it needs."""
        if await cached.refresh(reference):
            raise OSError("our own storage does not take it")
        document = parse_document(await cached.read(reference))
        for child in document.manifests or ():
            if depth < DEPTH and self._wants(child):
                await self._pull(cached, child.digest, depth + 1)
        if document.is_index:
            return
        for part in [*([document.config] if document.config else []), *(document.layers or [])]:
            if not part.urls:
                await self._blob(cached, Digest(part.digest))

    async def _blob(self, cached: CachedRepository, digest: Digest) -> None:
        content = await cached.open(digest)
        with content:
            if isinstance(content, Arriving):
                await content.ready(content.size, 0)

    def _wants(self, child: Descriptor) -> bool:
        called, platforms = _names_of(child), self._mirroring.platforms
        return not platforms or not called or not called.isdisjoint(platforms)


def _names_of(child: Descriptor) -> set[str]:
    """Return what a child of an index may be called; one without a platform is always wanted."""
    platform = child.platform
    if platform is None or "unknown" in (platform.os, platform.architecture):
        return set()  # such as attestations
    name = f"{platform.os}/{platform.architecture}"
    return {name, f"{name}/{platform.variant}"} if platform.variant else {name}
