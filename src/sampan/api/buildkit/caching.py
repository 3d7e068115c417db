"""Caches of a build that are stored elsewhere: in registries, in folders of the client, in images.

A cache that cannot be read stops no build: its vertex says why.

Source: buildkit client/solve.go (attributes), control/control.go, solver/llbsolver/solver.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from sampan.api.buildkit.clients import SessionClient
from sampan.api.buildkit.content import ClientStore
from sampan.api.buildkit.sessions import Session
from sampan.build.exporting.layout import pieces
from sampan.build.exporting.outlet import Destination, Outlet
from sampan.build.exporting.outputs import Result
from sampan.build.remotecache.exporting import (
    CacheWish,
    Store,
    cache_wish,
    steps_of,
    store_cache,
)
from sampan.build.remotecache.importing import Imports, Origin
from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.spec.buildkit import control_pb2 as pb
from sampan.spec.digest import parse_digest
from sampan.spec.exports import Compression, LayerPlace
from sampan.spec.image import DOCUMENT_LIMIT, Descriptor
from sampan.spec.reference import Reference

_LOCAL: Final = "local:"  # buildkit cache/remotecache/local/local.go
_IMPORTS: Final = ("registry", "local")


class CacheEntry(msgspec.Struct):
    """One cache that a client names."""

    kind: str = msgspec.field(name="Type", default="")
    attributes: dict[str, str] | None = msgspec.field(name="Attrs", default=None)


def imports_of(
    attributes: Mapping[str, str], known: Sequence[pb.CacheOptionsEntry]
) -> list[CacheEntry]:
    """Return the caches that a build shall use: of its attributes, or else those `known`.

    Raises InvalidArgument.
    """
    text = attributes.get("cache-imports", "")
    if not text:
        return [CacheEntry(one.Type, dict(one.Attrs)) for one in known]
    try:
        return msgspec.json.decode(text, type=list[CacheEntry])
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"failed to unmarshal cache-imports: {error}") from error


def exports_of(entries: Sequence[pb.CacheOptionsEntry]) -> list[CacheWish]:
    """Return the caches that a build shall be stored in. Raises InvalidArgument, Unsupported."""
    return [cache_wish(entry.Type, dict(entry.Attrs)) for entry in entries]


def with_steps(result: Result, wishes: Sequence[CacheWish]) -> Result:
    """Let images tell of the steps that made them, if that is wanted."""
    if not any(wish.kind == "inline" for wish in wishes):
        return result
    return replace(result, built=[replace(built, inline=True) for built in result.built])


@dataclass(frozen=True, slots=True)
class Caching:
    """The caches of one build. `progress` tells of them."""

    outlet: Outlet
    session: Session
    progress: Any

    # --- using -----------------------------------------------------------------------------

    async def use(self, imports: Imports, entries: Sequence[CacheEntry]) -> None:
        """Read caches; what cannot be read is told, and not used."""
        for entry in entries:
            named = entry.attributes or {}
            shown = named.get("ref") or named.get("src") or entry.kind
            try:
                with self.progress.during(f"importing cache manifest from {shown}"):
                    await imports.add(await self._origin(entry.kind, named))
            except SampanError:
                continue  # the vertex has said it

    async def _origin(self, kind: str, attributes: Mapping[str, str]) -> Origin:
        if kind not in _IMPORTS:
            raise Unsupported(f"unknown cache importer: {kind}")
        if kind == "local":
            store = ClientStore(self.session, _LOCAL + attributes.get("src", ""))
            return _ClientOrigin(store, parse_digest(attributes.get("digest", "")))
        reference = Reference.parse(attributes.get("ref", "")).with_default_tag()
        credentials = await SessionClient(self.session).credentials(reference)
        return self.outlet.origin(reference, credentials)

    # --- storing ---------------------------------------------------------------------------

    async def store(self, result: Result, wishes: Sequence[CacheWish]) -> dict[str, str]:
        """Store what a build has done; return what the client is told of it."""
        told: dict[str, str] = {}
        for wish in wishes:
            if wish.kind == "inline":
                continue
            where = "registry" if wish.kind == "registry" else "client directory"
            try:
                with self.progress.during(f"exporting cache to {where}") as vertex:
                    told |= await self._store(result, wish, vertex)
            except SampanError:
                if not wish.ignore_error:
                    raise
        return told

    async def _store(self, result: Result, wish: CacheWish, vertex: Any) -> dict[str, str]:
        def tell(text: str) -> None:
            vertex.transfer(text, 0, 0, done=True)

        store, tag = await self._place(wish)
        steps = steps_of(result.built, all=wish.all)
        found = await store_cache(steps, wish, store, tag, tell)
        if found is None:
            tell("skipping cache export for empty result")
            return {}
        return {"cache.manifest": msgspec.json.encode(found).decode()}

    async def _place(self, wish: CacheWish) -> tuple[Store, str]:
        if wish.kind == "local":
            store = ClientStore(self.session, _LOCAL + wish.attributes["dest"])
            return _ClientFolder(store, self.outlet), ""
        reference = Reference.parse(wish.attributes["ref"]).with_default_tag()
        credentials = await SessionClient(self.session).credentials(reference)
        place: Destination = self.outlet.destination(reference, credentials)
        return place, reference.tag


@dataclass(frozen=True, slots=True)
class _ClientFolder:
    """A folder of the client that a cache goes to."""

    store: ClientStore
    outlet: Outlet

    async def layer(self, layer: LayerPlace, form: Compression) -> Descriptor:
        """Have a layer there in some form."""
        async with self.outlet.packed(layer, form) as packed:
            await self.store.write(packed.descriptor, pieces(packed))
            return packed.descriptor

    async def blob(self, descriptor: Descriptor, content: bytes) -> None:
        """Have a small blob there."""
        await self.store.write(descriptor, [content])

    async def manifest(self, descriptor: Descriptor, content: bytes, tag: str = "") -> None:
        """Store a manifest; the client names it."""
        await self.store.write(descriptor, [content])


@dataclass(frozen=True, slots=True)
class _ClientOrigin:
    """A folder of the client that a cache is in."""

    store: ClientStore
    digest: str

    async def manifest(self, digest: str = "") -> tuple[Descriptor, bytes]:
        """Return a manifest or index."""
        named = parse_digest(digest or self.digest)
        size = await self.store.size(named)
        if not 0 <= size <= DOCUMENT_LIMIT:
            raise InvalidArgument(f"the manifest {named} has {size} bytes")
        descriptor = Descriptor(digest=named, size=size)
        async with self.blob(descriptor) as parts:
            return descriptor, b"".join([piece async for piece in parts])

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give a blob; it is checked when it ends."""
        return aclosing(self.store.read(descriptor))
