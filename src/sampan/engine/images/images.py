"""Local images: what Docker's image commands do. The rules are in the modules beside this one."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.engine.blocking import blocking
from sampan.engine.database import Database
from sampan.engine.disk_account import DiskAccount
from sampan.engine.images import listing, removal
from sampan.engine.images.archives.fetching import counted, fetched
from sampan.engine.images.archives.importing import CommitRequest, commit, import_archive
from sampan.engine.images.archives.loading import Loading
from sampan.engine.images.archives.saving import Saving
from sampan.engine.images.checking import Check
from sampan.engine.images.database import ImageDatabase
from sampan.engine.images.distribution.pulling import Pulling
from sampan.engine.images.distribution.pushing import Pushing
from sampan.engine.images.distribution.transfers import Slots, TransferLimits, TransferRequest
from sampan.engine.images.filters import Filters
from sampan.engine.images.model import Emit, Image, ImageUse
from sampan.engine.images.reports import Messages, Report, reported
from sampan.engine.images.store import ImageStore
from sampan.engine.snapshot_driver import SnapshotDriver
from sampan.errors import Conflict, SampanError
from sampan.http.urls import Url
from sampan.spec.docker.images import (
    ImageDeleteItem,
    ImageHistoryItem,
    ImageInspect,
    ImagesPruneReport,
    ImageSummary,
    ProgressMessage,
)
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, from_repo_and_tag
from sampan.spec.storage import CheckReport, StorageItem
from sampan.storage.content import ContentStore
from sampan.storage.mounter import DriverInfo, Mounter

log = logging.getLogger(__name__)
_OVERLAY = DriverInfo(name="overlay")

__all__ = ["CommitRequest", "Filters", "Image", "ImageUse", "Images"]


class Images:
    """The images of an engine: of one storage driver, with content below `root`.

    `data_root` is where all of the engine lies, `root` itself unless it is given.

    `uses` tells which containers there are, `containers` the ids also of those being made; `emit`
    takes events: action, image id, attributes.
    `driver` has the name of the snapshot driver, for inspect.
    """

    def __init__(
        self,
        root: Path,
        database: Database,
        mounter: Mounter,
        *,
        driver: SnapshotDriver | DriverInfo = _OVERLAY,
        data_root: Path | None = None,
        uses: Callable[[], Iterable[ImageUse]] = lambda: (),
        containers: Callable[[], Collection[str]] = frozenset,
        emit: Emit = lambda _action, _image, _attributes: None,
        registries: Registries | None = None,
        limits: TransferLimits | None = None,
    ) -> None:
        tables = ImageDatabase(database)
        self.store = ImageStore(ContentStore(root), mounter, tables, uses, emit)
        self.registries, limits = registries or Registries(), limits or TransferLimits()
        self._downloads, self._uploads = Slots(limits.downloads), Slots(limits.uploads)
        self._pulling = Pulling(self.store, self.registries, self._downloads, emit)
        self.pushing = Pushing(self.store, self.registries, self._uploads, emit)
        self._driver = driver
        self._root, self._containers = data_root or root, containers
        self._pruning = False

    async def resolve(self, name: str, platform: Platform | None = None) -> Image:
        """Return the image that `name` means: a reference, an id or a prefix of an id.

        Raises NotFound ("No such image: alpine:latest"), InvalidArgument for what is no name.
        """
        return self.store.find(name, platform)

    def get(self, id: str) -> Image | None:
        """Return the image with exactly this id."""
        return self.store.images.get(id)

    def references(self, id: str) -> list[Reference]:
        """Return the references to an image, sorted."""
        return self.store.references(id)

    def size(self, image: Image) -> int:
        """Return the bytes of all layers of an image."""
        return self.store.size(image)

    def count(self) -> int:
        """Return how many images there are."""
        return len(self.store.images)

    def layers_size(self) -> int:
        """Return the bytes of all layers together, shared ones once (`docker system df`)."""
        return sum(chain.size for chain in self.store.layers.chains.values())

    async def summaries(
        self,
        filters: Filters,
        *,
        all: bool = False,
        shared_size: bool = False,
        manifests: bool = False,
    ) -> list[ImageSummary]:
        """Return what `docker images` lists, newest first; with `manifests` what a tree needs."""
        here = await blocking(set, self.store.content) if manifests else None
        return listing.summaries(
            self.store, filters, all=all, shared_size=shared_size, manifests=here
        )

    async def inspect(
        self, name: str, platform: Platform | None = None, *, manifests: bool = False
    ) -> ImageInspect:
        """Return all that is known of an image."""
        image = self.store.find(name, platform)
        return await listing.inspect(self.store, image, self._driver.name, manifests=manifests)

    async def history(self, name: str, platform: Platform | None = None) -> list[ImageHistoryItem]:
        """Return how an image was made, newest step first."""
        return listing.history(self.store, self.store.find(name, platform))

    async def tag(self, name: str, repo: str, tag: str = "") -> None:
        """Give an image another name. Emits `tag`."""
        reference = from_repo_and_tag(repo, tag)
        if reference is None:
            return
        async with self.store.intake():  # what `name` stands for stays meanwhile
            image = self.store.find(name)
            await self.store.tag(image.id, reference, self.store.target_for(name, image))
        self.store.log("tag", image, reference.familiar)

    async def remove(
        self,
        name: str,
        *,
        force: bool = False,
        prune_parents: bool = True,
        platforms: Sequence[Platform] = (),
    ) -> list[ImageDeleteItem]:
        """Remove a name of an image, and the image with its last one.

        Raises NotFound, or Conflict if a container or a child image needs it. Emits `untag`,
        `delete`.
        """
        removing = removal.Removal(self.store, force=force)
        await removing.remove(name, prune_parents=prune_parents, platforms=platforms)
        return removing.done

    async def prune(self, filters: Filters) -> ImagesPruneReport:
        """Remove images that nothing uses. Conflict while another prune runs. Emits `prune`."""
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            report = await removal.prune(self.store, filters)
        finally:
            self._pruning = False
        self.store.log_prune(report.space_reclaimed)
        return report

    async def collect(self) -> list[str]:
        """Remove layers that no image and no container needs; for start-up and after `rm`."""
        return await self.store.collect()

    async def clean(self) -> None:
        """Remove what a predecessor has left that was killed: for the start."""
        try:
            await self.store.delete_unnamed()
        except (SampanError, OSError, sqlite3.Error) as error:
            log.warning("images without a name could not be removed: %s", error)
        await self.collect_quietly()

    async def collect_quietly(self) -> None:
        """Do `collect` for somebody whose own work is done: what fails is only logged."""
        try:
            for chain in await self.collect():
                log.info("the layer %s is removed: nothing needs it", chain)
        except (SampanError, OSError, sqlite3.Error) as error:
            log.warning("layers that nothing needs could not be removed: %s", error)

    async def storage(self) -> list[StorageItem]:
        """Return what every byte below the data root belongs to."""
        return await DiskAccount(self._root, self.store, self.store.uses).items()

    async def check(self, *, repair: bool = False) -> CheckReport:
        """Verify all that is stored, and with `repair` mend what can be mended; reads it all."""
        return await Check(self.store, self._root, self._containers).run(repair=repair)

    def limit(self, limits: TransferLimits) -> None:
        """Change how many layers are transferred at once, from now on."""
        self._downloads.resize(limits.downloads)
        self._uploads.resize(limits.uploads)

    def pull(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> Messages:
        """Fetch an image from its registry; yield what Docker prints.

        Without a tag and a digest all tags are fetched. Raises NotFound, Unauthorized,
        InvalidArgument, Upstream. Emits `pull`.
        """
        request = TransferRequest(reference, platform, credentials)
        return reported(lambda report: self._pulling.pull(request, report))

    async def push(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> Messages:
        """Send an image to its registry; yield what Docker prints.

        Without a tag all images of the repository are sent; with `platform` only that of an
        index. Raises NotFound, Unauthorized, InvalidArgument, Upstream. Emits `push`.
        """
        if platform is not None:
            self.store.find(str(reference), platform)
        request = TransferRequest(reference, platform, credentials)
        async with aclosing(reported(lambda report: self.pushing.push(request, report))) as said:
            async for message in said:
                yield message

    async def import_(
        self,
        archive: AsyncIterable[bytes],
        reference: Reference | None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
    ) -> str:
        """Make an image of a root file system tar; return its id. Emits `import`, `tag`."""
        async with self.store.intake():  # nobody prunes it before it has its name
            image = await import_archive(
                self.store,
                archive,
                changes=changes,
                message=message,
                platform=platform,
                awaits_name=reference is not None,
            )
            if reference is not None:
                await self.store.tag(image.id, reference)
                self.store.log("tag", image, reference.with_default_tag().familiar)
        return image.id

    def import_from(
        self,
        address: str,
        reference: Reference | None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
    ) -> Messages:
        """Make an image of a root file system tar on the web; yield what Docker prints."""
        url = Url.parse(address if "://" in address else f"http://{address}")

        async def work(report: Report) -> None:
            async with fetched(url) as archive:
                report.say(f"Downloading from {url}")
                made = await self.import_(
                    counted(archive, report),
                    reference,
                    changes=changes,
                    message=message,
                    platform=platform,
                )
            report.say(made)

        return reported(work)

    async def load(
        self, archive: AsyncIterable[bytes], *, quiet: bool = True, platform: Platform | None = None
    ) -> AsyncIterator[ProgressMessage]:
        """Add the images of a Docker archive or an OCI layout; yield what Docker prints.

        Raises InvalidArgument for an archive that is broken or holds no images. Emits `load`.
        """
        async with self.store.intake():
            loading = Loading(self.store, quiet=quiet, platform=platform)
            async with aclosing(loading.run(archive)) as messages:
                async for message in messages:
                    yield message

    async def save(
        self, names: Sequence[str], platform: Platform | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a tar with the images `names`; NotFound comes before the first byte."""
        saving = Saving(self.store, names, platform)
        for image in saving.images():
            self.store.log("save", image, image.id)
        chains = [chain for image in saving.images() for chain in image.chains]
        with self.store.layers.wanted(chains):
            async with self.store.intake(), aclosing(saving.run()) as data:
                async for piece in data:
                    if piece:
                        yield piece

    async def commit(self, request: CommitRequest) -> str:
        """Make an image of a container; return its id. Emits `create`, `tag`."""
        return (await commit(self.store, request)).id
