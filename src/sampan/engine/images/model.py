"""What the image store speaks of: images, names, layers and where layers came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sampan.spec.digest import Digest
from sampan.spec.image import ImageConfig, nanoseconds

Emit = Callable[[str, str, Mapping[str, str]], None]  # action, image id, attributes


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the store: one configuration, for one platform."""

    id: str  # sha256:… of its configuration
    config: ImageConfig
    chains: tuple[Digest, ...]  # the snapshots of its layers, lowest first
    parent: str = ""  # id of the image it was committed or built on, "" if it came from elsewhere
    last_tagged: int = 0  # nanoseconds since the epoch

    @property
    def chain_id(self) -> Digest | None:
        """The snapshot that containers are made on; None for an image of no layers."""
        return self.chains[-1] if self.chains else None

    @property
    def created(self) -> int | None:
        """When it was made, in nanoseconds since the epoch; None if it does not say."""
        return None if self.config.created is None else nanoseconds(self.config.created)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its configuration."""
        return self.config.run.labels or {}


@dataclass(frozen=True, slots=True)
class Name:
    """What a reference stands for.

    `target` is the digest of the manifest or index that it means in a registry or an archive, ""
    for an image that was made here. `image` is the image that it named when it was set; if the
    target is an index, `ImageStore.find` may prefer another of its platforms.
    """

    image: str
    target: Digest | None = None


@dataclass(frozen=True, slots=True)
class ImageUse:
    """A container, as far as images care."""

    container: str
    image: str  # sha256:…
    running: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """What is known of the content of a layer, wherever it lies in a chain."""

    diff_id: Digest
    plain_size: int  # bytes of the uncompressed tar
    blob: Digest | None = None  # its archive in the content store, if that is kept
    blob_size: int = 0
    media_type: str = ""  # of the blob


@dataclass(frozen=True, slots=True)
class Source:
    """Where a compressed form of a layer lies."""

    repository: str  # host[:port]/path
    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Staged:
    """A layer that is unpacked, and not yet on its parent."""

    key: str  # of its snapshot
    diff_id: Digest
    plain_size: int  # bytes of the uncompressed tar
    size: int  # bytes of its files
