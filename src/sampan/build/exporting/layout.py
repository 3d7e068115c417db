"""Images as archives: OCI layouts, and Docker's archives, which are layouts with a manifest.json.

Source: containerd core/images/archive/exporter.go, opencontainers/image-spec image-layout.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from sampan.build.exporting.assembling import Assembly
from sampan.build.exporting.outlet import Packed
from sampan.spec.digest import Digest, encoded
from sampan.spec.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    MEDIA_INDEX,
    ArchiveItem,
    Document,
)
from sampan.spec.reference import Reference
from sampan.storage.archives.tar_writer import TarWriter, file_entry, folder_entry

LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
PIECE: Final = 256 << 10


async def archive(
    assembly: Assembly,
    layers: Mapping[str, Packed],
    names: Sequence[str],
    described: Mapping[str, Any],
    *,
    docker: bool,
) -> AsyncIterator[bytes]:
    """Yield an archive; `described` is the root as the index shall say it, `layers` by digest."""
    output = bytearray()
    tar = TarWriter(output.extend)
    for name in ("blobs", "blobs/sha256"):
        tar.header(folder_entry(name))
    for digest in sorted({*assembly.blobs, *(one.digest for one, _ in assembly.manifests)}):
        content = _content(assembly, digest)
        tar.add(file_entry(_path(digest), len(content)), content)
    for digest, packed in sorted(layers.items()):
        tar.header(file_entry(_path(digest), packed.descriptor.size))
        for piece in pieces(packed):
            tar.raw(piece)
            tar.flush()
            yield bytes(output)
            output.clear()
        tar.pad(packed.descriptor.size)
    tar.add(file_entry("index.json", len(index := _index(names, described))), index)
    if docker:
        item = msgspec.json.encode([_item(assembly, names)])
        tar.add(file_entry("manifest.json", len(item)), item)
    tar.add(file_entry("oci-layout", len(LAYOUT)), LAYOUT)
    tar.close()
    yield bytes(output)


def pieces(packed: Packed) -> Iterator[bytes]:
    """Yield the content of a layer."""
    at = 0
    while piece := packed.read(at, PIECE):
        yield piece
        at += len(piece)


def _content(assembly: Assembly, digest: str) -> bytes:
    found = assembly.blobs.get(Digest(digest))
    return found[1] if found else dict(_contents(assembly))[digest]


def _contents(assembly: Assembly) -> Iterator[tuple[str, bytes]]:
    for descriptor, content in assembly.manifests:
        yield descriptor.digest, content


def _path(digest: str) -> str:
    return f"blobs/sha256/{encoded(Digest(digest))}"


def _index(names: Sequence[str], described: Mapping[str, Any]) -> bytes:
    entries = [dict(described)]
    if names:
        entries = []
        for reference in map(Reference.parse, names):
            known = dict(described.get("annotations") or {})
            named = {ANNOTATION_IMAGE_NAME: str(reference), ANNOTATION_REF_NAME: reference.tag}
            entries.append({**described, "annotations": known | named})
    fields = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": entries}
    return msgspec.json.encode(fields)


def _item(assembly: Assembly, names: Sequence[str]) -> ArchiveItem:
    manifest = msgspec.json.decode(assembly.manifests[-1][1], type=Document)
    return ArchiveItem(
        config=_path(assembly.config),
        repo_tags=[Reference.parse(name).familiar for name in names] or None,
        layers=[_path(layer.digest) for layer in manifest.layers or []],
    )
