"""The OCI image specification 1.1 with Docker's additions: config, manifest, index, as data.

Source: opencontainers/image-spec config.md, manifest.md, image-index.md; moby
daemon/internal/image/image.go. Go writes `null` for empty lists and maps, so all may be None.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from sampan.errors import InvalidArgument
from sampan.spec.digest import parse_digest
from sampan.spec.platform import Platform, PlatformBody

WHITEOUT = b".wh."  # layer.md: begins the name of a file that says that another is deleted
OPAQUE_WHITEOUT = b".wh..wh..opq"  # in a directory: what lies below it in lower layers is hidden

MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
MEDIA_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MEDIA_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
INDEXES = (MEDIA_INDEX, MEDIA_DOCKER_INDEX)
MANIFESTS = (MEDIA_MANIFEST, MEDIA_DOCKER_MANIFEST)
# Old tools gave configurations the types of plain JSON: moby distribution/pull_v2.go.
IMAGE_CONFIGS = (MEDIA_CONFIG, MEDIA_DOCKER_CONFIG, "application/octet-stream", "")
DOCUMENT_LIMIT = 4 << 20  # bytes of a manifest or index; registries accept no larger ones
ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_IMAGE_NAME = "io.containerd.image.name"

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII
)


class Healthcheck(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """How the health of a container is tested; times in nanoseconds, 0 inherits."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class RunConfig(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """The `config` of an image: the defaults of the containers that are made from it."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    exposed_ports: dict[str, Any] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None
    args_escaped: bool = False


class RootFS(msgspec.Struct, kw_only=True):
    """The layers of an image, lowest first, as digests of their uncompressed tars."""

    type: str = "layers"
    diff_ids: list[str] | None = None


class History(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How one layer, or one change of the configuration, was made."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The configuration document of an image; the digest of its bytes is the image's id."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    created: str | None = None  # RFC 3339
    author: str = ""
    comment: str = ""
    container: str = ""
    docker_version: str = ""
    parent: str = ""
    config: RunConfig | None = None
    rootfs: RootFS | None = None
    history: list[History] | None = None

    @property
    def diff_ids(self) -> list[str]:
        """The layers, lowest first."""
        return (self.rootfs.diff_ids or []) if self.rootfs else []

    @property
    def run(self) -> RunConfig:
        """The run configuration, empty if the image has none."""
        return self.config or RunConfig()

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        host = Platform.host()
        return Platform.of(self.os, self.architecture or host.architecture, self.variant)

    @property
    def platform_body(self) -> PlatformBody:
        """What the image runs on, as an index says it."""
        return PlatformBody(
            architecture=self.architecture,
            os=self.os or "linux",
            os_version=self.os_version,
            os_features=self.os_features,
            variant=self.variant,
        )


class Descriptor(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A pointer to content: type, digest, size."""

    media_type: str = ""
    digest: str
    size: int
    artifact_type: str = ""
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: PlatformBody | None = None


class Manifest(msgspec.Struct, rename="camel", kw_only=True):
    """One image: its configuration and its layers."""

    schema_version: int = 2
    media_type: str = MEDIA_MANIFEST
    config: Descriptor
    layers: list[Descriptor]


class Index(msgspec.Struct, rename="camel", kw_only=True):
    """Several manifests: platforms of an image, or the images of a layout."""

    schema_version: int = 2
    media_type: str = MEDIA_INDEX
    manifests: list[Descriptor]


class Document(msgspec.Struct, rename="camel", kw_only=True):
    """A manifest or an index that came from elsewhere, as it is."""

    schema_version: int = 0
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    @property
    def is_index(self) -> bool:
        """It lists manifests, and is none."""
        return self.manifests is not None

    @property
    def kind(self) -> str:
        """Its media type; the one that its content has if it does not say."""
        return self.media_type or (MEDIA_INDEX if self.is_index else MEDIA_MANIFEST)


class ArchiveItem(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """One image in the manifest.json of a Docker archive."""

    config: str
    repo_tags: list[str] | None = msgspec.field(name="RepoTags")
    layers: list[str] | None = msgspec.field(name="Layers")
    parent: str = ""


def parse_document(content: bytes, media_type: str = "") -> Document:
    """Return a manifest or an index; raise InvalidArgument if it is neither, or could be both.

    `media_type` is what it was called by whoever gave it: content that says otherwise is refused,
    so that nobody reads one document as two things (CVE-2021-41190).
    """
    try:
        document = msgspec.json.decode(content, type=Document)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid manifest: {error}") from error
    if document.is_index:
        if document.config is not None or document.layers is not None:
            raise InvalidArgument("invalid manifest: it is an image and an index at once")
        expected = INDEXES
    elif document.config is not None:
        expected = MANIFESTS
    else:
        raise InvalidArgument("invalid manifest: it has neither a configuration nor manifests")
    for said in (document.media_type, media_type):
        if said and said not in expected and said in (*INDEXES, *MANIFESTS):
            raise InvalidArgument(f"invalid manifest: its content is not of the type {said}")
    if media_type and document.media_type and media_type != document.media_type:
        raise InvalidArgument(
            f"invalid manifest: it is said to be {media_type}, and says {document.media_type}"
        )
    return document


def parse_config(content: bytes) -> ImageConfig:
    """Return an image's configuration; raise InvalidArgument if it is none."""
    try:
        config = msgspec.json.decode(content, type=ImageConfig)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid image JSON: {error}") from error
    if config.rootfs is None:
        raise InvalidArgument("invalid image JSON, no RootFS key")
    for diff_id in config.diff_ids:
        parse_digest(diff_id)
    if config.created is not None:
        nanoseconds(config.created)
    return config


def nanoseconds(timestamp: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the epoch; InvalidArgument if it is none."""
    match = _RFC3339.fullmatch(timestamp)
    try:
        if match is None:
            raise ValueError
        zone = "+00:00" if match[4] in "Zz" else match[4]
        moment = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}")
    except ValueError as error:
        raise InvalidArgument(f"invalid timestamp: {timestamp[:64]!r}") from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 10**9 + int((match[3] or "").ljust(9, "0"))


def timestamp(nanos: int) -> str:
    """Return nanoseconds since the epoch as Go's RFC3339Nano in UTC: no trailing zeros."""
    seconds, fraction = divmod(nanos, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        moment, fraction = "0001-01-01T00:00:00", 0
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{moment.zfill(19)}{digits}Z"
