"""Local images: names, configurations, layers; what Docker's image commands do."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sampan.spec.docker.images import (
    ImageDeleteItem,
    ImageHistoryItem,
    ImageInspect,
    ImagesPruneReport,
    ImageSummary,
    ProgressMessage,
)
from sampan.spec.image import ImageConfig, RunConfig
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the store."""

    id: str  # sha256:… of its configuration
    config: ImageConfig
    chain_id: str | None  # the snapshot that containers are made on; None for an image of no layers
    parent: str = ""  # id of the image it was committed or built on, "" if it came from elsewhere
    last_tagged: int = 0  # nanoseconds since the epoch


@dataclass(frozen=True, slots=True)
class ImageUse:
    """A container, as far as images care."""

    container: str
    image: str  # sha256:…
    running: bool


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What becomes an image: a container's writable snapshot and its configuration."""

    container: str
    image: str  # id of the image the container was made from, "" if it is gone
    config: RunConfig  # the container's own
    override: RunConfig | None = None  # the body of POST /commit
    changes: Sequence[str] = ()
    author: str = ""
    comment: str = ""
    reference: Reference | None = None


class Images:
    """The images of this engine.

    `uses` tells which containers there are; `emit` takes events: action, id, attributes.
    """

    async def resolve(self, name: str, platform: Platform | None = None) -> Image:
        """Return the image that `name` means: a reference, an id or a prefix of an id.

        Raises NotFound ("No such image: alpine:latest"), InvalidArgument for what is no name.
        """

    def get(self, id: str) -> Image | None:
        """Return the image with exactly this id."""

    def references(self, id: str) -> list[Reference]:
        """Return the references to an image, sorted."""

    async def summaries(
        self, filters: Filters, *, all: bool = False, shared_size: bool = False
    ) -> list[ImageSummary]:
        """Return what `docker images` lists, newest first."""

    async def inspect(self, name: str, platform: Platform | None = None) -> ImageInspect: ...
    async def history(
        self, name: str, platform: Platform | None = None
    ) -> list[ImageHistoryItem]: ...
    async def tag(self, name: str, repo: str, tag: str = "") -> None: ...
    async def remove(
        self,
        name: str,
        *,
        force: bool = False,
        prune_parents: bool = True,
        platform: Platform | None = None,
    ) -> list[ImageDeleteItem]: ...
    async def prune(self, filters: Filters) -> ImagesPruneReport: ...
    async def import_(
        self,
        archive: AsyncIterable[bytes],
        reference: Reference | None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
    ) -> str:
        """Make an image of a root file system tar; return its id."""

    def load(
        self, archive: AsyncIterable[bytes], *, quiet: bool = True, platform: Platform | None = None
    ) -> AsyncIterator[ProgressMessage]:
        """Add the images of a Docker archive or an OCI layout; yield what Docker prints."""

    def save(self, names: Sequence[str], platform: Platform | None = None) -> AsyncIterator[bytes]:
        """Yield a tar with the images `names`; NotFound comes with the first item."""

    async def commit(self, request: CommitRequest) -> str:
        """Make an image of a container; return its id."""

    def layers_size(self) -> int:
        """Return the bytes of all layers together, shared ones once (`docker system df`)."""
