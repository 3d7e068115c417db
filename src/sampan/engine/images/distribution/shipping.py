"""One layer to a repository: is it there, can it be mounted, or where do its bytes come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.distribution.uploads import Read
from sampan.engine.images.distribution.departing import packed, passed_on, stored
from sampan.engine.images.distribution.transfers import Slots, Tell
from sampan.engine.images.model import Source
from sampan.engine.images.reports import Meter
from sampan.engine.images.store import ImageStore
from sampan.errors import Forbidden, NotFound, Unauthorized, Upstream
from sampan.spec.digest import Digest, parse_digest
from sampan.spec.image import MEDIA_LAYER_GZIP, Descriptor
from sampan.spec.names import short_id
from sampan.spec.reference import Reference

log = logging.getLogger(__name__)
_ATTEMPTS: Final = 3  # to send one layer
_MOUNTS: Final = 3  # attempts to mount one layer from other repositories


@dataclass(frozen=True, slots=True)
class Cargo:
    """A layer that is to be in a repository."""

    diff_id: Digest
    chain: Digest
    wanted: Descriptor | None = None  # the form that a manifest names; None: any gzip form

    @property
    def name(self) -> str:
        """What the client sees."""
        return short_id(self.diff_id)


@dataclass(frozen=True, slots=True)
class Shipped:
    """The form in which a layer is in the repository now."""

    descriptor: Descriptor

    def close(self) -> None:
        """It holds nothing."""


class Shipping:
    """Brings layers to one repository."""

    def __init__(
        self,
        store: ImageStore,
        registries: Registries,
        repository: Repository,
        credentials: Credentials | None,
        slots: Slots,
        packing: Slots,
    ) -> None:
        self._store, self._registries, self._slots = store, registries, slots
        self._packing = packing
        self._repository, self._credentials = repository, credentials
        self._place = repository.reference.name

    async def layer(self, cargo: Cargo, tell: Tell) -> Shipped:
        """Have a layer in the repository; raises what the registry says."""
        name = cargo.name
        async with self._slots.one(lambda: tell(lambda report: report.update(name, "Waiting"))):
            found = await self._there(cargo, tell) or await self._sent(cargo, tell)
        source = Source(self._place, parse_digest(found.digest), found.size, found.media_type)
        await self._store.layers.note_source(cargo.diff_id, source)
        return Shipped(found)

    # --- what need not be sent -----------------------------------------------------------------

    async def _there(self, cargo: Cargo, tell: Tell) -> Descriptor | None:
        """Return the form that is there, or was mounted: one request, as a rule."""
        forms = self._forms(cargo)
        here = [source for source in forms if source.repository == self._place]
        mountable = [source for source in forms if self._is_mountable(source)][:_MOUNTS]
        checks = here[:1] or ([] if mountable else forms[:1])
        for source in checks:
            if await self._has(source.digest):
                _update(tell, cargo, "Layer already exists")
                return _described(source, cargo)
        for source in mountable:
            path = Reference.parse(source.repository).path
            if await self._mounts(source.digest, path):
                _update(tell, cargo, f"Mounted from {path}")
                return _described(source, cargo)
        return None

    async def _mounts(self, digest: Digest, path: str) -> bool:
        """Have a blob mounted, if the registry allows it: the other repository may be closed."""
        try:
            return await self._repository.mount(digest, path)
        except (NotFound, Unauthorized, Forbidden):
            return False

    async def _has(self, digest: Digest) -> bool:
        """Tell whether the repository has a blob; who may not ask learns why when he sends it."""
        try:
            return await self._repository.has_blob(digest) is not None
        except (NotFound, Unauthorized, Forbidden):
            return False

    def _forms(self, cargo: Cargo) -> list[Source]:
        """Return the known compressed forms that would do, the newest first."""
        sources = self._store.layers.sources(cargo.diff_id)
        wanted = cargo.wanted
        if wanted is None:
            return [source for source in sources if "zstd" not in source.media_type] or sources
        found = [source for source in sources if source.digest == wanted.digest]
        return found or [Source("", parse_digest(wanted.digest), wanted.size, wanted.media_type)]

    def _is_mountable(self, source: Source) -> bool:
        if source.repository in ("", self._place):
            return False
        if not source.digest.startswith("sha256:"):
            return False  # docker-registry 2.8 says that it has mounted it, and has not
        return Reference.parse(source.repository).domain == self._repository.reference.domain

    # --- what has to be sent -------------------------------------------------------------------

    async def _sent(self, cargo: Cargo, tell: Tell) -> Descriptor:
        """Send a layer; what broke for good on its way is worth another attempt from its beginning.

        What is small, or can go on where it broke, is sent again by the registry's client.
        """
        for attempt in range(1, min(_ATTEMPTS, self._registries.config.max_attempts)):
            try:
                return await self._send(cargo, tell)
            except Upstream as error:
                if not error.may_pass:
                    raise
                log.info("layer %s is sent to %s again: %s", cargo.diff_id, self._place, error)
            await self._registries.pause(attempt)
        return await self._send(cargo, tell)

    async def _send(self, cargo: Cargo, tell: Tell) -> Descriptor:
        kept = self._store.layers.find(cargo.diff_id)
        if kept and kept.blob and (cargo.wanted is None or cargo.wanted.digest == kept.blob):
            form = cargo.wanted or Descriptor(
                media_type=kept.media_type, digest=kept.blob, size=kept.blob_size
            )
            return await self._known(cargo, form, stored(self._store.content, kept.blob), tell)
        if cargo.wanted is not None:
            for source in self._forms(cargo):
                if passed := await self._pass_on(cargo, cargo.wanted, source, tell):
                    return passed
        return await self._pack(cargo, tell)

    async def _pass_on(
        self, cargo: Cargo, form: Descriptor, source: Source, tell: Tell
    ) -> Descriptor | None:
        """Send a layer from the registry it came from; None if that does not give it any more."""
        if source.repository in ("", self._place):
            return None
        origin = Reference.parse(source.repository)
        same = origin.domain == self._repository.reference.domain
        repository = self._registries.repository(origin, self._credentials if same else None)
        try:
            if await repository.has_blob(source.digest) is None:
                return None
        except (NotFound, Unauthorized, Forbidden, Upstream):
            return None
        return await self._known(cargo, form, passed_on(repository, form), tell)

    async def _known(
        self,
        cargo: Cargo,
        form: Descriptor,
        source: AbstractAsyncContextManager[Read],
        tell: Tell,
    ) -> Descriptor:
        meter = Meter(self._telling(cargo, form.size, tell))
        try:
            async with source as read:
                await self._repository.upload_known(form, read, meter)
        finally:
            meter.stop()
        _update(tell, cargo, "Pushed")
        return form

    async def _pack(self, cargo: Cargo, tell: Tell) -> Descriptor:
        """Send a layer as we compress it."""
        layer = self._store.layers.find(cargo.diff_id)
        meter = Meter(self._telling(cargo, layer.plain_size if layer else 0, tell))
        try:
            async with (
                self._packing.one(),
                packed(self._store.mounter, cargo.chain, meter) as read,
            ):
                digest, size = await self._repository.upload(read, lambda _: None)
        finally:
            meter.stop()
        _update(tell, cargo, "Pushed")
        return Descriptor(media_type=MEDIA_LAYER_GZIP, digest=digest, size=size)

    def _telling(self, cargo: Cargo, total: int, tell: Tell) -> Callable[[int], None]:
        return lambda count: tell(
            lambda report: report.advance(cargo.name, "Pushing", count, total)
        )


def _update(tell: Tell, cargo: Cargo, status: str) -> None:
    tell(lambda report: report.update(cargo.name, status))


def _described(source: Source, cargo: Cargo) -> Descriptor:
    return cargo.wanted or Descriptor(
        media_type=source.media_type, digest=source.digest, size=source.size
    )


def cargoes(
    diff_ids: Sequence[str], chains: Sequence[Digest], wanted: Sequence[Descriptor | None]
) -> list[Cargo]:
    """Return the layers of an image, lowest first."""
    return [
        Cargo(parse_digest(diff_id), chain, form)
        for diff_id, chain, form in zip(diff_ids, chains, wanted, strict=True)
    ]
