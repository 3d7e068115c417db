"""Bodies of the image endpoints of Docker's Engine API.

Source: moby api/types/image. Docker's capitals are irregular (`Id`, `Os`, `RootFS`, `GraphDriver`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.spec.image import Descriptor
from sampan.spec.platform import PlatformBody


class ManifestSize(msgspec.Struct, rename="pascal", kw_only=True):
    """Bytes of one manifest of an image."""

    content: int = 0  # of its blobs in the content store
    total: int = 0  # with its files


class UnpackedSize(msgspec.Struct, rename="pascal", kw_only=True):
    """Bytes of the files of an image."""

    unpacked: int = 0


class ImageProperties(msgspec.Struct, rename="pascal", kw_only=True):
    """What is special to manifests of images."""

    platform: PlatformBody
    size: UnpackedSize
    containers: list[str] = []  # ids of all that use it


class AttestationProperties(msgspec.Struct, kw_only=True):
    """What is special to attestations."""

    subject: str = msgspec.field(name="For")  # digest of the manifest that it is about


class ManifestSummary(msgspec.Struct, rename="pascal", kw_only=True):
    """One manifest of an image: a platform, an attestation or something else."""

    id: str = msgspec.field(name="ID")  # digest of the manifest
    descriptor: Descriptor
    available: bool = False  # all of it is here
    size: ManifestSize
    kind: str  # image, attestation or unknown
    image_data: ImageProperties | msgspec.UnsetType = msgspec.UNSET
    attestation_data: AttestationProperties | msgspec.UnsetType = msgspec.UNSET


class ImageSummary(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of GET /images/json."""

    containers: int = -1  # -1: not counted
    created: int = 0  # seconds since the epoch
    id: str
    labels: dict[str, str] | None = None
    parent_id: str = ""
    descriptor: Descriptor | msgspec.UnsetType = msgspec.UNSET
    manifests: list[ManifestSummary] | msgspec.UnsetType = msgspec.UNSET  # only with manifests=1
    repo_digests: list[str] = []
    repo_tags: list[str] = []
    shared_size: int = -1  # -1: not computed
    size: int = 0


class DriverData(msgspec.Struct, rename="pascal", kw_only=True):
    """What the snapshot driver says of an image or container."""

    data: dict[str, str] | None = None
    name: str = ""


class InspectRootFS(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """The layers of an image."""

    type: str = ""
    layers: list[str] | None = None


class InspectMetadata(msgspec.Struct, rename="pascal", kw_only=True):
    """What this engine knows of the image beyond its configuration."""

    last_tag_time: str = "0001-01-01T00:00:00Z"


class ImageInspect(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /images/{name}/json, as API 1.51 has it; older versions add fields."""

    id: str
    repo_tags: list[str] = []
    repo_digests: list[str] = []
    parent: str = ""
    comment: str = ""
    created: str | msgspec.UnsetType = msgspec.UNSET  # RFC 3339
    docker_version: str = ""
    author: str = ""
    config: dict[str, Any] | None = None
    architecture: str = ""
    variant: str | msgspec.UnsetType = msgspec.UNSET
    os: str = ""
    os_version: str | msgspec.UnsetType = msgspec.UNSET
    size: int = 0
    graph_driver: DriverData = msgspec.field(default_factory=DriverData)
    root_fs: InspectRootFS = msgspec.field(default_factory=InspectRootFS, name="RootFS")
    metadata: InspectMetadata = msgspec.field(default_factory=InspectMetadata)
    descriptor: Descriptor | msgspec.UnsetType = msgspec.UNSET
    manifests: list[ManifestSummary] | msgspec.UnsetType = msgspec.UNSET  # only with manifests=1


class ImageHistoryItem(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of GET /images/{name}/history, newest first."""

    comment: str = ""
    created: int = 0  # seconds since the epoch
    created_by: str = ""
    id: str = "<missing>"
    size: int = 0
    tags: list[str] | None = None


class ImageDeleteItem(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """One item of the answer to DELETE /images/{name}: exactly one field is set."""

    untagged: str = ""
    deleted: str = ""


class ImagesPruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /images/prune."""

    images_deleted: list[ImageDeleteItem] | None = None
    space_reclaimed: int = 0


class ProgressDetail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far an operation is, in bytes."""

    current: int = 0
    total: int = 0


class ErrorDetail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What stopped an operation whose answer had begun."""

    code: int = 0
    message: str = ""


class ProgressMessage(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One JSON line of load, import, pull, push and build.

    Source: moby api/types/jsonstream; the lines end with CR LF.
    """

    stream: str = ""
    status: str = ""
    progress_detail: ProgressDetail | None = None
    progress: str = ""
    id: str = ""
    error_detail: ErrorDetail | None = None
    error: str = ""
    aux: Any = None
