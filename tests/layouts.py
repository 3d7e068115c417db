"""OCI layouts, blob by blob, for tests of what may be in an archive of images."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests import tarballs

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
Descriptor = dict[str, Any]


def unpacked(archive: bytes, folder: Path) -> Descriptor:
    """Lay out an archive with one image in a folder; return what describes the image."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(folder)
    [found] = msgspec.json.decode((folder / "index.json").read_bytes())["manifests"]
    return dict(found)


def packed(content: bytes) -> bytes:
    """Compress with gzip, the same every time."""
    return gzip.compress(content, mtime=0)


class Layout:
    """Blobs, and the descriptors in index.json."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.algorithm = algorithm
        self.blobs: dict[str, bytes] = {}
        self.manifests: list[Descriptor] = []

    def digest(self, content: bytes) -> str:
        return f"{self.algorithm}:{hashlib.new(self.algorithm, content).hexdigest()}"

    def blob(self, content: bytes, media_type: str, **more: Any) -> Descriptor:
        """Add a blob; return what describes it."""
        digest = self.digest(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def document(self, content: Any, media_type: str, **more: Any) -> Descriptor:
        return self.blob(msgspec.json.encode(content), media_type, **more)

    def image(
        self,
        *layers: bytes,
        architecture: str = "amd64",
        os: str = "linux",
        compress: Callable[[bytes], bytes] | None = packed,
        layer_type: str = "",
        **fields: Any,
    ) -> Descriptor:
        """Add an image of uncompressed layers; return what describes its manifest."""
        config = {
            "architecture": architecture,
            "os": os,
            "rootfs": {"type": "layers", "diff_ids": [tarballs.digest(layer) for layer in layers]},
        }
        kind = layer_type or (LAYER + "+gzip" if compress else LAYER)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document(config | fields, CONFIG),
            "layers": [self.blob(compress(it) if compress else it, kind) for it in layers],
        }
        platform = {"architecture": architecture, "os": os}
        return self.document(manifest, MANIFEST, platform=platform)

    def attestation(self, subject: Descriptor) -> Descriptor:
        """Add what BuildKit says about an image; return what describes it."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document({"architecture": "unknown", "os": "unknown"}, CONFIG),
            "layers": [
                self.document(
                    {"_type": "https://in-toto.io/Statement/v0.1", "for": subject["digest"]},
                    "application/vnd.in-toto+json",
                )
            ],
        }
        return self.document(
            manifest,
            MANIFEST,
            platform={"architecture": "unknown", "os": "unknown"},
            annotations={
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": subject["digest"],
            },
        )

    def index(self, *manifests: Descriptor) -> Descriptor:
        """Add an index; return what describes it."""
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
        return self.document(content, INDEX)

    def name(self, descriptor: Descriptor, name: str = "") -> None:
        """Give something a name in index.json."""
        annotations = {"io.containerd.image.name": name} if name else {}
        kept = {key: descriptor[key] for key in ("mediaType", "digest", "size")}
        self.manifests.append({**kept, "annotations": annotations})

    def archive(self, *without: str, **more: bytes) -> bytes:
        """Return the layout as a tar, with more members (dots in their names written as _)."""
        index = {"schemaVersion": 2, "manifests": self.manifests}
        members = {
            "blobs/" + digest.replace(":", "/"): content
            for digest, content in self.blobs.items()
            if digest not in without
        }
        members["index.json"] = msgspec.json.encode(index)
        members["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
        members |= {name.replace("_", "."): content for name, content in more.items()}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as written:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                written.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()
