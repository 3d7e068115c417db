"""One repository of an upstream, as one client may have it: what is here, and what has to come.

Tags are asked of the upstream each time, by HEAD; what a digest names is asked only once. Where
the upstream cannot be asked, what is here is good enough.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.errors import NotFound, SampanError, Upstream
from sampan.registry import names, paths
from sampan.registry.drivers.driver import Content
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.registry.proxy.arriving import Absent, Arriving
from sampan.registry.proxy.eviction import Eviction
from sampan.registry.proxy.failures import failure
from sampan.registry.proxy.figures import Figures
from sampan.registry.proxy.tasks import Tasks
from sampan.registry.proxy.transfers import AT_ONCE, Transfer
from sampan.registry.proxy.upstreams import Place, Places
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from sampan.spec.image import Descriptor, parse_document

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 10.0  # seconds for an upstream to answer, where something is here that can be served
DOWN_SECONDS = 10.0  # an upstream that failed is not asked about what is here
LONGEST_PAUSE = 300.0  # as long, where it asks for that
OCTETS = "application/octet-stream"
BLOB, MANIFEST = "blob", "manifest"


@dataclass
class Shared:
    """What all cached repositories have in common."""

    registry: Registry
    threads: Executor
    places: Places
    clients: dict[str, Registries] = field(default_factory=dict)  # by the upstream's name
    figures: Figures = field(default_factory=Figures)
    tasks: Tasks = field(default_factory=Tasks)
    transfers: dict[Digest, list[Transfer]] = field(default_factory=dict)
    down: dict[str, float] = field(default_factory=dict)
    eviction: Eviction = field(init=False)
    tell: Callable[[Event], None] = lambda _: None  # of what changes here; it blocks
    slots: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
    )  # by the upstream's name: a slow one keeps only its own clients waiting

    def __post_init__(self) -> None:
        self.eviction = Eviction(self.registry, self.places, self.figures)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that blocks, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, function, *arguments)


class CachedRepository:
    """A repository at a place."""

    def __init__(self, shared: Shared, place: Place, may_read: Callable[[str], bool]) -> None:
        """`may_read` tells whether the client may read another repository of this registry."""
        self.place = place
        self._shared = shared
        self._may_read = may_read

    @property
    def _name(self) -> str:
        return self.place.repository

    def _count(self, figure: str, kind: str, count: int = 1) -> None:
        self._shared.figures.add(figure, self.place.upstream.name, kind, count)

    async def _remote(self) -> Repository:
        upstream = self.place.upstream
        credentials = await upstream.login.credentials()
        client = self._shared.clients[upstream.name]
        return client.repository_at(upstream.endpoint, self.place.path, credentials)

    def _failure(self, error: Exception, missing: RegistryError) -> Exception:
        return failure(error, self.place, missing)

    # --- manifests ---------------------------------------------------------------------------

    async def refresh(self, reference: str) -> None:
        """Make what a tag or digest means there mean the same here.

        Raises MANIFEST_UNKNOWN; DENIED or UNAVAILABLE if nothing is here and none can be got.
        """
        self._count("requests", MANIFEST)
        if ":" in reference and await self._shared.run(self._has_manifest, reference):
            self._count("hits", MANIFEST)
            return
        await self._shared.tasks.together((self._name, reference), lambda: self._ask_for(reference))

    async def read(self, reference: str) -> bytes:
        """Return a manifest that is here. Raises MANIFEST_UNKNOWN."""
        manifests = self._shared.registry.manifests
        return (await self._shared.run(manifests.read, self._name, reference))[1]

    async def _ask_for(self, reference: str) -> None:
        if ":" in reference:
            await self._bring_manifest(Digest(reference))
        else:
            await self._refresh_tag(reference)

    async def _bring_manifest(self, digest: Digest) -> None:
        try:
            await self._fetch_manifest(await self._remote(), digest, "")
        except SampanError as error:
            raise self._failure(error, self._unknown(digest)) from None

    async def _refresh_tag(self, tag: str) -> None:
        known = await self._shared.run(self._tagged, tag)
        if known and self._is_down():
            self._count("stale", MANIFEST)
            return
        try:
            found = await self._ask(tag, bool(known))
            if found is not None:
                await self._move(tag, known, found)
        except (SampanError, TimeoutError) as error:
            if known is None:
                raise self._failure(error, self._unknown(tag)) from None
            log.warning(
                "%s:%s is served as it was: %s", self._name, tag, str(error) or "no answer in time"
            )
            self._count("stale", MANIFEST)
            return
        if found is None:
            if known:
                await self._shared.run(self._untag, tag)
            raise self._unknown(tag)

    async def _ask(self, tag: str, is_known: bool) -> Digest | None:
        """Ask what a tag means now; None if there is none. One that fails is left alone a while."""
        try:
            async with asyncio.timeout(PATIENCE if is_known else None):
                found = await (await self._remote()).head(tag)
        except (Upstream, TimeoutError) as error:
            asked = (error.retry_after or 0.0) if isinstance(error, Upstream) else 0.0
            pause = max(DOWN_SECONDS, min(asked, LONGEST_PAUSE))
            self._shared.down[self.place.upstream.name] = time.monotonic() + pause
            raise
        return Digest(found.digest) if found else None

    def _is_down(self) -> bool:
        return self._shared.down.get(self.place.upstream.name, 0.0) > time.monotonic()

    async def _move(self, tag: str, known: str | None, found: Digest) -> None:
        if known == found or await self._shared.run(self._tag_known, tag, found):
            self._count("hits", MANIFEST)
        else:
            await self._fetch_manifest(await self._remote(), found, tag)

    async def _fetch_manifest(self, remote: Repository, digest: Digest, tag: str) -> None:
        self._count("misses", MANIFEST)
        fetched = await remote.manifest(digest)
        self._count("pulled_bytes", MANIFEST, len(fetched.content))
        kind = fetched.descriptor.media_type
        try:
            names.digest(digest)
            await self._shared.run(self._keep, digest, kind, fetched.content, tag)
            await self._shared.run(self._tell, digest, kind, fetched.content, tag)
        except RegistryError as error:
            if error.items[0].code not in ("MANIFEST_INVALID", "DIGEST_INVALID"):
                raise  # ours: a quota, say
            raise Upstream(f"it sent what is no manifest: {error}") from None

    def _keep(self, digest: Digest, kind: str, content: bytes, tag: str) -> None:
        """Store a manifest, which is small: it is kept even where there is no room."""
        shared, kept = self._shared, False
        granted = shared.eviction.make_room(self._name, len(content))
        try:
            shared.registry.manifests.keep(self._name, digest, kind, content, tag)
            kept = True
        finally:
            if granted:
                shared.eviction.came(self._name, len(content), kept)

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
        """Return the tags there; None if the upstream cannot be asked."""
        if self._is_down():
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                return sorted(set(await (await self._remote()).tags()))
        except NotFound:
            raise RegistryError("NAME_UNKNOWN", {"name": self._name}) from None
        except (SampanError, TimeoutError) as error:
            log.warning("tags of %s are those that are here: %s", self._name, error)
            return None

    async def referrers(self, digest: Digest) -> list[Descriptor] | None:
        """Return what is attached to a manifest there; None if the upstream cannot be asked."""
        if self._is_down():
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                return await (await self._remote()).referrers(digest)
        except (SampanError, TimeoutError) as error:
            log.warning("referrers of %s are those that are here: %s", digest, error)
            return None

    # --- blobs -------------------------------------------------------------------------------

    async def open(self, digest: Digest, *, to_read: bool = True) -> Content | Arriving:
        """Open a blob: one that is here, or that comes, which is begun if nobody has.

        Raises BLOB_UNKNOWN; DENIED or UNAVAILABLE; OSError if it cannot be stored.
        """
        self._count("requests", BLOB)
        shared = self._shared
        content = await shared.run(self._here, digest)
        if content is None:
            size = await self._size(digest)
            content = await shared.run(self._held, digest)
        if content is not None:
            self._count("hits", BLOB)
            return content
        transfer = self._under_way(digest)
        if transfer is None and not to_read:
            return Absent(size)
        self._count("hits" if transfer else "misses", BLOB)
        arriving = Arriving(transfer or self._begin(digest, size))
        try:
            await arriving.ready(min(1, size))
        except SampanError as error:
            arriving.close()
            raise self._failure(error, _no_blob(digest)) from None
        except BaseException:
            arriving.close()
            raise
        return arriving

    def _here(self, digest: Digest) -> Content | None:
        """Open a blob that this repository has; what is torn has to come again."""
        try:
            return self._shared.registry.blobs.open(self._name, digest)
        except RegistryError as error:
            if error.items[0].code not in ("BLOB_UNKNOWN", "UNAVAILABLE"):
                raise
        return None

    def _held(self, digest: Digest) -> Content | None:
        """Open a blob that another repository has and that may be given to this one."""
        registry = self._shared.registry
        if registry.metadata.row("SELECT 1 FROM links WHERE digest = ?", digest) is None:
            return None
        try:
            if not registry.blobs.mount(self._name, digest, "", self._may_share):
                return None
        except RegistryError as error:
            if error.items[0].code != "DENIED":
                raise
            return self._elsewhere(digest)
        return self._here(digest)

    def _elsewhere(self, digest: Digest) -> Content | None:
        """Open a blob of another repository, for which a quota leaves this one no room."""
        registry = self._shared.registry
        rows = registry.metadata.rows("SELECT repository FROM links WHERE digest = ?", digest)
        for (holder,) in rows:
            if self._may_share(holder):
                return registry.blobs.open(holder, digest)
        return None

    def _may_share(self, holder: str) -> bool:
        """Tell whether this repository, which has a blob there, may have it from another one here.

        Yes, if everybody, or this upstream, or this client could give it. Else it comes once more:
        who can give it has it, and who knows its digest alone does not.
        """
        place = self._shared.places.of(holder)
        if place is None:
            return self._may_read(holder)
        upstream = place.upstream
        return upstream is self.place.upstream or upstream.is_public or self._may_read(holder)

    async def _size(self, digest: Digest) -> int:
        """Return the length of a blob that the upstream's repository has. Raises BLOB_UNKNOWN."""
        described = await self._shared.run(self._described, digest)
        if described is not None:
            return described
        try:
            async with asyncio.timeout(PATIENCE):
                size = await (await self._remote()).has_blob(digest)
        except (SampanError, TimeoutError) as error:
            raise self._failure(error, _no_blob(digest)) from None
        if size is None:
            raise _no_blob(digest)
        return size

    def _described(self, digest: Digest) -> int | None:
        """Return the length that a manifest of this repository tells of a blob."""
        registry = self._shared.registry
        row = registry.metadata.row(
            "SELECT manifest FROM parts WHERE repository = ? AND digest = ? AND kind = 'blob'",
            self._name,
            digest,
        )
        if row is None:
            return None
        try:
            document = parse_document(registry.driver.read(paths.blob(row[0])))
        except (FileNotFoundError, SampanError):
            return None
        parts = [*([document.config] if document.config else []), *(document.layers or [])]
        return next((part.size for part in parts if part.digest == digest), None)

    def _under_way(self, digest: Digest) -> Transfer | None:
        for transfer in self._shared.transfers.get(digest, ()):
            if transfer.error is None and self._may_share(transfer.place.repository):
                return transfer
        return None

    def _begin(self, digest: Digest, size: int) -> Transfer:
        transfer = Transfer(self.place, digest, size)
        self._shared.transfers.setdefault(digest, []).append(transfer)
        self._shared.tasks.start(self._transfer(transfer))
        return transfer

    async def _transfer(self, transfer: Transfer) -> None:
        shared, digest = self._shared, transfer.digest
        wanted = Descriptor(media_type=OCTETS, digest=digest, size=transfer.size)

        async def fetch(take: Callable[[memoryview], None], advance: Callable[[int], None]) -> None:
            async with shared.slots[self.place.upstream.name]:
                await (await self._remote()).fetch_blob(wanted, take, advance)
            self._count("pulled_bytes", BLOB, transfer.size)

        try:
            await transfer.run(shared.registry, shared.threads, fetch, shared.eviction)
        finally:
            running = shared.transfers[digest]
            running.remove(transfer)
            if not running:
                del shared.transfers[digest]

    def sent(self, kind: str, size: int) -> None:
        """Count what is given to a client."""
        self._count("pushed_bytes", kind, size)


def _no_blob(digest: Digest) -> RegistryError:
    return RegistryError("BLOB_UNKNOWN", {"digest": digest})
