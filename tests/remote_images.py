"""Images as registries hold them: layers, manifests, indexes and attestations, made here."""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import zstandard

from sampan.spec import image as media
from tests import tarballs
from tests.busybox import archive as busybox_archive
from tests.wire import Reply

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCTETS = "application/octet-stream"
KINDS = (
    *(media.MEDIA_DOCKER_MANIFEST, media.MEDIA_DOCKER_INDEX),
    *(media.MEDIA_MANIFEST, media.MEDIA_INDEX),
)
ACCEPT = {"Accept": ", ".join(["*/*", *KINDS])}
CREATED = "2024-01-01T00:00:00Z"


class Remote(Protocol):
    """A registry that takes images."""

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply: ...


def digest(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@dataclass(frozen=True)
class Blob:
    """Bytes with a media type."""

    media_type: str
    content: bytes = field(repr=False)
    algorithm: str = "sha256"
    extra: Mapping[str, Any] = field(default_factory=dict)  # more of the descriptor

    @functools.cached_property
    def digest(self) -> str:
        return digest(self.content, self.algorithm)

    @property
    def descriptor(self) -> dict[str, Any]:
        size = len(self.content)
        return {"mediaType": self.media_type, "digest": self.digest, "size": size, **self.extra}


@dataclass(frozen=True)
class Layer(Blob):
    """A layer: the compressed bytes, and the digest of the plain ones."""

    diff_id: str = ""


def layer(plain: bytes, compression: str = "gzip", *, oci: bool = False, **more: Any) -> Layer:
    """Make a layer of an uncompressed archive; `compression` is gzip, zstd or ""."""
    kinds = {
        "gzip": media.MEDIA_LAYER_GZIP if oci else media.MEDIA_DOCKER_LAYER_GZIP,
        "zstd": media.MEDIA_LAYER_ZSTD,
        "": media.MEDIA_LAYER if oci else "application/vnd.docker.image.rootfs.diff.tar",
    }
    if compression == "gzip":
        packer = zlib.compressobj(6, wbits=31)
        content = packer.compress(plain) + packer.flush()
    else:
        content = zstandard.compress(plain) if compression == "zstd" else plain
    kind = more.pop("media_type", kinds[compression])
    return Layer(kind, content, diff_id=tarballs.digest(plain), **more)


@dataclass(frozen=True)
class Image:
    """A manifest with what it names."""

    manifest: Blob
    config: Blob
    layers: Sequence[Layer]

    @property
    def blobs(self) -> list[Blob]:
        """What must be there before the manifest: all that is not fetched from elsewhere."""
        return [self.config, *(item for item in self.layers if "urls" not in item.extra)]

    @property
    def id(self) -> str:
        """The image's id: the digest of its configuration."""
        return self.config.digest

    @property
    def digest(self) -> str:
        return self.manifest.digest


@dataclass(frozen=True)
class Index:
    """An index with its images."""

    manifest: Blob
    images: Sequence[Image]

    @property
    def digest(self) -> str:
        return self.manifest.digest


def image(
    *layers: Layer,
    architecture: str = "amd64",
    system: str = "linux",
    variant: str = "",
    oci: bool = False,
    algorithm: str = "sha256",
    history: Sequence[dict[str, Any]] | None = None,
    **run: Any,
) -> Image:
    """Make an image; keywords such as `Cmd` and `Env` go into its run configuration."""
    document: dict[str, Any] = {
        "architecture": architecture,
        "os": system,
        "created": CREATED,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [item.diff_id for item in layers]},
        "history": history
        or [{"created": CREATED, "created_by": f"step {n}"} for n in range(len(layers))],
    }
    if variant:
        document["variant"] = variant
    kind = media.MEDIA_CONFIG if oci else media.MEDIA_DOCKER_CONFIG
    config = Blob(kind, json.dumps(document).encode(), algorithm)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MEDIA_MANIFEST if oci else media.MEDIA_DOCKER_MANIFEST,
        "config": config.descriptor,
        "layers": [item.descriptor for item in layers],
    }
    content = json.dumps(manifest).encode()
    return Image(Blob(str(manifest["mediaType"]), content, algorithm), config, layers)


def attestation(subject: Image) -> Image:
    """Make a provenance attestation as BuildKit does: a manifest of platform unknown/unknown."""
    statement = json.dumps({"_type": "https://in-toto.io/Statement/v0.1", "subject": []}).encode()
    content = Layer("application/vnd.in-toto+json", statement, diff_id=digest(statement))
    made = image(content, architecture="unknown", system="unknown", oci=True)
    return Image(
        Blob(
            made.manifest.media_type,
            made.manifest.content,
            extra={
                "annotations": {
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": subject.digest,
                }
            },
        ),
        made.config,
        made.layers,
    )


def index(*images: Image, attestations: bool = False, oci: bool = True) -> Index:
    """Make an index of the images' platforms, if wanted with an attestation of each."""
    members = [*images, *(map(attestation, images) if attestations else ())]
    entries = []
    for member in members:
        config = json.loads(member.config.content)
        platform = {key: config[key] for key in ("architecture", "os", "variant") if key in config}
        entries.append({**member.manifest.descriptor, "platform": platform})
    document = {
        "schemaVersion": 2,
        "mediaType": media.MEDIA_INDEX if oci else media.MEDIA_DOCKER_INDEX,
        "manifests": entries,
    }
    return Index(Blob(str(document["mediaType"]), json.dumps(document).encode()), members)


@functools.cache
def busybox_layer(compression: str = "gzip", oci: bool = False) -> Layer:
    """Return that root file system as a layer."""
    return layer(busybox_archive(), compression, oci=oci)


def busybox(*more: Layer, compression: str = "gzip", **options: Any) -> Image:
    """Make an image that can run, with more layers on top."""
    options.setdefault("Cmd", ["sh"])
    options.setdefault("Env", ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
    return image(busybox_layer(compression, options.get("oci", False)), *more, **options)


def small_layer(name: str, content: bytes = b"", **options: Any) -> Layer:
    """Make a layer with one file."""
    return layer(tarballs.archive(tarballs.file(name, content or name.encode())), **options)


def push(remote: Remote, repository: str, tag: str, what: Image | Index) -> str:
    """Store an image or an index in a registry; return the digest of what the tag then names."""
    for member in what.images if isinstance(what, Index) else [what]:
        for blob in member.blobs:
            upload(remote, repository, blob)
        if isinstance(what, Index):
            put_manifest(remote, repository, member.digest, member.manifest)
    return put_manifest(remote, repository, tag, what.manifest)


def upload(remote: Remote, repository: str, blob: Blob) -> None:
    """Store a blob in a repository, unless it is there."""
    if remote.ask("HEAD", f"/v2/{repository}/blobs/{blob.digest}").status == 200:
        return
    started = remote.ask("POST", f"/v2/{repository}/blobs/uploads/")
    assert started.status == 202, started
    place = started.headers["Location"].partition("/v2/")[2]
    done = remote.ask(
        "PUT",
        f"/v2/{place}{'&' if '?' in place else '?'}digest={blob.digest}",
        blob.content,
        {"Content-Type": OCTETS},
    )
    assert done.status == 201, done


def put_manifest(remote: Remote, repository: str, reference: str, manifest: Blob) -> str:
    """Store a manifest under a tag or its digest; return its digest."""
    path = f"/v2/{repository}/manifests/{reference}"
    done = remote.ask("PUT", path, manifest.content, {"Content-Type": manifest.media_type})
    assert done.status == 201, done
    return manifest.digest


def demand_whole(remote: Remote, repository: str, reference: str, wanted: str) -> None:
    """Demand that a manifest has a digest, and that all that it needs is there."""
    reply = remote.ask("GET", f"/v2/{repository}/manifests/{reference}", headers=ACCEPT)
    assert (reply.status, digest(reply.body)) == (200, wanted)
    document = reply.json
    for child in document.get("manifests", []):
        demand_whole(remote, repository, child["digest"], child["digest"])
    parts = [document["config"], *document["layers"]] if "config" in document else []
    for part in parts:
        if "urls" not in part:
            blob = remote.ask("GET", f"/v2/{repository}/blobs/{part['digest']}")
            algorithm = part["digest"].partition(":")[0]
            assert (blob.status, digest(blob.body, algorithm)) == (200, part["digest"])
