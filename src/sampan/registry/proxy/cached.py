"""One repository of an upstream, as one client may have it: what is here, and what has to come.

Tags are asked of the upstream each time, by HEAD; what a digest names is asked only once. Where
the upstream cannot be asked, what is here is good enough.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sampan.distribution.repository import Repository
from sampan.errors import NotFound, SampanError, Upstream
from sampan.registry import names
from sampan.registry.content.manifests import Stored
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.registry.proxy import placed
from sampan.registry.proxy.cached_blobs import CachedBlobs
from sampan.spec.digest import Digest
from sampan.spec.image import Descriptor

log = logging.getLogger(__name__)
DOWN_SECONDS = 10.0  # an upstream that failed is not asked about what is here
LONGEST_PAUSE = 300.0  # as long, where it asks for that
MANIFEST = "manifest"
Passed = tuple[Stored, bytes]  # a manifest that our own storage does not take


class CachedRepository(CachedBlobs):
    """A repository at a place: its blobs, its manifests and its tags."""

    async def refresh(self, reference: str) -> Passed | None:
        """Make what a tag or digest means there mean the same here.

        Where our own storage fails, return the manifest, which is not here.

        Raises MANIFEST_UNKNOWN; DENIED or UNAVAILABLE if nothing is here and none can be got.
        """
        self._count("requests", MANIFEST)
        if ":" in reference and await self._shared.look(self._has_manifest, reference):
            self._count("hits", MANIFEST)
            return None
        key = (self._name, reference)
        return await self._shared.tasks.together(key, lambda: self._ask_for(reference))

    async def read(self, reference: str) -> bytes:
        """Return a manifest that is here. Raises MANIFEST_UNKNOWN."""
        manifests = self._shared.registry.manifests
        return (await self._shared.run(manifests.read, self._name, reference))[1]

    async def _ask_for(self, reference: str) -> Passed | None:
        if ":" in reference:
            return await self._bring_manifest(Digest(reference))
        return await self._refresh_tag(reference)

    async def _bring_manifest(self, digest: Digest) -> Passed | None:
        try:
            return await self._fetch_manifest(await self._remote(), digest, "")
        except SampanError as error:
            raise self._failure(error, self._unknown(digest)) from None

    async def _refresh_tag(self, tag: str) -> Passed | None:
        known: str | None = await self._shared.look(self._tagged, tag)
        if known and self._is_down():
            self._count("stale", MANIFEST)
            return None
        try:
            found = await self._ask(tag, bool(known))
            if found is not None:
                return await self._move(tag, known, found)
        except (SampanError, TimeoutError) as error:
            if known is None:
                raise self._failure(error, self._unknown(tag)) from None
            log.warning(
                "%s:%s is served as it was: %s", self._name, tag, str(error) or "no answer in time"
            )
            self._count("stale", MANIFEST)
            return None
        if known:
            await self._shared.look(self._untag, tag)
        raise self._unknown(tag)

    async def _ask(self, tag: str, is_known: bool) -> Digest | None:
        """Ask what a tag means now; None if there is none. One that fails is left alone a while."""
        try:
            async with asyncio.timeout(placed.PATIENCE if is_known else None):
                found = await (await self._remote()).head(tag)
        except (Upstream, TimeoutError) as error:
            asked = (error.retry_after or 0.0) if isinstance(error, Upstream) else 0.0
            pause = max(DOWN_SECONDS, min(asked, LONGEST_PAUSE))
            self._shared.down[self.place.upstream.name] = time.monotonic() + pause
            raise
        return Digest(found.digest) if found else None

    def _is_down(self) -> bool:
        return self._shared.down.get(self.place.upstream.name, 0.0) > time.monotonic()

    async def _move(self, tag: str, known: str | None, found: Digest) -> Passed | None:
        if known == found:
            self._count("hits", MANIFEST)
            return None
        if await self._shared.look(self._tag_known, tag, found):
            self._count("hits", MANIFEST)
            return None
        return await self._fetch_manifest(await self._remote(), found, tag)

    async def _fetch_manifest(self, remote: Repository, digest: Digest, tag: str) -> Passed | None:
        self._count("misses", MANIFEST)
        fetched = await remote.manifest(digest)
        self._count("pulled_bytes", MANIFEST, len(fetched.content))
        kind = fetched.descriptor.media_type
        try:
            names.digest(digest)
            if await self._shared.look(self._keep, digest, kind, fetched.content, tag):
                return None
        except RegistryError as error:
            if error.items[0].code not in ("MANIFEST_INVALID", "DIGEST_INVALID"):
                raise  # ours: a quota, say
            raise Upstream(f"it sent what is no manifest: {error}") from None
        return Stored(digest, kind, len(fetched.content)), fetched.content

    def _keep(self, digest: Digest, kind: str, content: bytes, tag: str) -> bool:
        """Store a manifest, which is small: it is kept even where there is no room."""
        shared, kept = self._shared, False
        granted = shared.eviction.make_room(self._name, len(content))
        try:
            shared.registry.manifests.keep(self._name, digest, kind, content, tag)
            kept = True
        finally:
            if granted:
                shared.eviction.came(self._name, len(content), kept)
        self._tell(digest, kind, content, tag)
        return kept

    def _has_manifest(self, reference: str) -> bool:
        """Tell whether a manifest is here; it is promised then, so that none forgets it now."""
        try:
            self._shared.registry.manifests.read(self._name, reference)
        except RegistryError:
            return False
        return True

    def _tagged(self, tag: str) -> str | None:
        """Return what a tag means here, if that is here whole."""
        try:
            return self._shared.registry.manifests.read(self._name, tag)[0].digest
        except RegistryError:
            return None

    def _tag_known(self, tag: str, digest: Digest) -> bool:
        """Give a tag to a manifest that is here; False if it is not."""
        manifests = self._shared.registry.manifests
        try:
            stored, content = manifests.read(self._name, digest)
            manifests.keep(self._name, digest, stored.media_type, content, tag)
        except RegistryError:
            return False
        self._tell(digest, stored.media_type, content, tag)
        return True

    def _tell(self, digest: Digest, kind: str, content: bytes, tag: str) -> None:
        """Tell that a manifest or a tag is new here."""
        self._shared.tell(
            Event("push", self._name, digest, kind, len(content), tag, content=content)
        )

    def _untag(self, tag: str) -> None:
        try:
            self._shared.registry.manifests.untag(self._name, tag)
        except RegistryError:
            pass  # somebody else was faster

    def _unknown(self, reference: str) -> RegistryError:
        return RegistryError("MANIFEST_UNKNOWN", {"name": self._name, "reference": reference[:256]})

    async def tags(self) -> list[str] | None:
        """Return the tags there; None if the upstream cannot be asked, and some may be here.

        Raises NAME_UNKNOWN; DENIED or UNAVAILABLE if nothing is here and nobody can be asked.
        """
        is_known = bool(await self._shared.look(self._is_known))
        if is_known and self._is_down():
            return None
        # The whole list comes for each page of it, and may be long: once for all who want it now.
        key = (self._name, "all tags")
        return await self._shared.tasks.together(key, lambda: self._ask_for_tags(is_known))

    async def _ask_for_tags(self, is_known: bool) -> list[str] | None:
        unknown = RegistryError("NAME_UNKNOWN", {"name": self._name})
        try:
            async with asyncio.timeout(placed.PATIENCE if is_known else None):
                return sorted(set(await (await self._remote()).tags()))
        except NotFound:
            raise unknown from None
        except (SampanError, TimeoutError) as error:
            if not is_known:
                raise self._failure(error, unknown) from None
            log.warning("tags of %s are those that are here: %s", self._name, error)
            return None

    def _is_known(self) -> bool:
        """Tell whether anything of this repository is here."""
        try:
            self._shared.registry.lists.tags(self._name, "", 1)
        except RegistryError:
            return False
        return True

    async def referrers(self, digest: Digest) -> list[Descriptor] | None:
        """Return what is attached to a manifest there; None if the upstream cannot be asked."""
        if self._is_down():
            return None
        key = (self._name, f"attached to {digest}")
        return await self._shared.tasks.together(key, lambda: self._ask_for_referrers(digest))

    async def _ask_for_referrers(self, digest: Digest) -> list[Descriptor] | None:
        try:
            async with asyncio.timeout(placed.PATIENCE):
                return await (await self._remote()).referrers(digest)
        except (SampanError, TimeoutError) as error:
            log.warning("referrers of %s are those that are here: %s", digest, error)
            return None

    def sent(self, kind: str, size: int) -> None:
        """Count what is given to a client."""
        self._count("pushed_bytes", kind, size)
