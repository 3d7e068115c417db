"""What needs a registry and no image of our own: login, search, a look at what lies there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from sampan.distribution.credentials import Credentials
from sampan.distribution.login import Login
from sampan.distribution.manifests import Fetched
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.engine.blocking import blocking
from sampan.engine.filters import Filters
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.spec.digest import Digest, digest_of, parse_digest
from sampan.spec.docker.registries import DistributionInspect, SearchItem
from sampan.spec.image import Descriptor, Document, parse_document
from sampan.spec.platform import PlatformBody
from sampan.spec.reference import Reference, parse_any

SEARCH_FILTERS: Final = ("is-automated", "is-official", "stars")
CONFIG_LIMIT: Final = 8 << 20  # bytes of an image's configuration
MANIFEST_LIMIT: Final = 4 << 20  # bytes; registries accept no larger ones
_SEARCH_DEFAULT, _SEARCH_LIMIT = 25, 100


async def read_config(repository: Repository, descriptor: Descriptor) -> bytes:
    """Return the configuration of an image in a registry, checked; raises Upstream."""
    if descriptor.size > CONFIG_LIMIT:
        raise InvalidArgument(f"the configuration {descriptor.digest} is too large")
    memory = os.memfd_create("configuration", os.MFD_CLOEXEC)
    try:
        await repository.fetch_blob(descriptor, memory, lambda _: None)
        return await blocking(os.pread, memory, descriptor.size, 0)
    finally:
        os.close(memory)


class RegistryQueries:
    """Asks registries on behalf of a client."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def login(self, server: str, credentials: Credentials) -> Login:
        """Check credentials; raises Unauthorized, Upstream."""
        return await self._registries.login(server, credentials)

    async def search(
        self,
        term: str,
        limit: int = 0,
        filters: Mapping[str, Sequence[str]] | None = None,
        credentials: Credentials | None = None,
    ) -> list[SearchItem]:
        """Return what `[host/]term` finds: at most `limit` (0: 25), then filtered.

        Raises InvalidArgument, Upstream. Source: moby daemon/pkg/registry/search.go.
        """
        wanted = Filters(filters or {}, SEARCH_FILTERS)
        automated, official = wanted.boolean("is-automated"), wanted.boolean("is-official")
        stars = max((_stars(value) for value in wanted.values("stars")), default=0)
        limit = limit or _SEARCH_DEFAULT
        if not 1 <= limit <= _SEARCH_LIMIT:
            raise InvalidArgument(f"limit {limit} is outside the range of [1, {_SEARCH_LIMIT}]")
        found = await self._registries.search(term, limit, credentials)
        return [
            SearchItem(
                star_count=each.star_count,
                is_official=each.is_official,
                name=each.name,
                is_automated=each.is_automated,
                description=each.description,
            )
            for each in found
            if automated in (None, each.is_automated)
            and official in (None, each.is_official)
            and each.star_count >= stars
        ]

    async def inspect(
        self, name: str, credentials: Credentials | None = None
    ) -> DistributionInspect:
        """Return what a name stands for in its registry, and for which platforms.

        Raises InvalidArgument, NotFound, Unauthorized, Upstream.
        """
        reference = _named(name)
        repository = self._registries.repository(reference, credentials)
        fetched = await repository.manifest(reference.digest or reference.tag)
        found = fetched.descriptor
        return DistributionInspect(
            descriptor=Descriptor(
                media_type=found.media_type, digest=found.digest, size=found.size
            ),
            platforms=await _platforms(repository, parse_document(fetched.content)),
        )

    async def manifest(self, name: str, credentials: Credentials | None = None) -> Fetched:
        """Return the manifest or index that a name stands for, as it is."""
        reference = _named(name)
        repository = self._registries.repository(reference, credentials)
        return await repository.manifest(reference.digest or reference.tag)

    async def put_manifest(
        self,
        name: str,
        media_type: str,
        content: bytes,
        *,
        tag: str = "",
        credentials: Credentials | None = None,
    ) -> Digest:
        """Store a manifest or index in a registry, under a tag or its digest alone."""
        reference = Reference.parse(name)
        if tag:
            reference = reference.with_tag(tag)
        parse_document(content, media_type)
        repository = self._registries.repository(reference, credentials, push=True)
        at = reference.tag or reference.digest or digest_of(content)
        return await repository.put_manifest(at, media_type, content)

    async def mount_blob(
        self, name: str, digest: str, source: str, credentials: Credentials | None = None
    ) -> None:
        """Make a blob of the repository `source` one of the repository `name`, at one registry.

        Raises NotFound if the registry does not do that.
        """
        to, origin = Reference.parse(name), Reference.parse(source)
        if to.domain != origin.domain:
            raise InvalidArgument(f"{source} is not in the registry of {name}")
        repository = self._registries.repository(to, credentials, push=True)
        blob = parse_digest(digest)
        if await repository.has_blob(blob) is None and not await repository.mount(
            blob, origin.path
        ):
            raise NotFound(f"blob {digest} cannot be mounted from {origin.familiar_name}")


def _named(name: str) -> Reference:
    meant = parse_any(name)
    if isinstance(meant, str):
        raise InvalidArgument("no manifest found for full image ID")
    return meant.with_default_tag()


def _stars(value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise InvalidArgument(
            f"invalid filter 'stars={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
        ) from error


async def _platforms(repository: Repository, document: Document) -> list[PlatformBody] | None:
    """Return the platforms of an index, or the one that an image's configuration names."""
    if document.manifests is not None:
        return [entry.platform or PlatformBody() for entry in document.manifests] or None
    if document.config is None:
        return None
    try:
        config = await read_config(repository, document.config)
        platform = msgspec.json.decode(config, type=PlatformBody)
    except (SampanError, msgspec.DecodeError):
        return None  # as in Docker, what is no image has no platforms
    return [platform] if platform.os or platform.architecture else None
