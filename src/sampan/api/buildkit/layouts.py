"""Images in OCI layouts of clients, read through their sessions.

Source: containerd api/services/content/v1/content.proto; buildkit session/content,
source/containerimage (how a store is named).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from sampan.api.buildkit.content import ClientStore
from sampan.api.buildkit.sessions import Session
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import parse_digest
from sampan.spec.image import Descriptor
from sampan.spec.platform import Platform, PlatformBody
from sampan.storage.archives.tar_fields import REGULAR, Entry
from sampan.storage.archives.tar_writer import TarWriter

_DOCUMENT: Final = 4 << 20  # bytes of a manifest or index
_DEPTH: Final = 4  # of indexes in indexes
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


class _Document(msgspec.Struct):
    manifests: list[Descriptor] | None = None
    config: Descriptor | None = None
    layers: list[Descriptor] = []


async def archive_of(
    session: Session, name: str, digest: str, platform: Platform
) -> AsyncIterator[bytes]:
    """Yield one image of a store of the client as an OCI layout.

    Raises NotFound for blobs that are not there, InvalidArgument for what is no image.
    """
    store = ClientStore(session, f"oci:{name}")
    digest, raw, document = await _manifest(store, digest, platform)
    assert document.config is not None
    top = {"digest": digest, "size": len(raw), "mediaType": _media_type(raw)}
    index = msgspec.json.encode({"schemaVersion": 2, "manifests": [top]})
    pieces: list[bytes] = []
    writer = TarWriter(pieces.append)
    for path, content in (("oci-layout", _LAYOUT), ("index.json", index), (_path(digest), raw)):
        writer.add(_entry(path, len(content)), content)
    seen: set[str] = {digest}
    for blob in (document.config, *document.layers):
        if blob.digest in seen:
            continue
        seen.add(blob.digest)
        writer.header(_entry(_path(blob.digest), blob.size))
        writer.flush()
        yield b"".join(pieces)
        pieces.clear()
        async for piece in store.read(blob):
            yield piece
        writer.pad(blob.size)
    writer.close()
    yield b"".join(pieces)


async def _manifest(
    store: ClientStore, digest: str, platform: Platform
) -> tuple[str, bytes, _Document]:
    """Return the manifest that a digest means, of an index that of the platform."""
    for _ in range(_DEPTH):
        raw = await store.whole(digest, _DOCUMENT)
        try:
            document = msgspec.json.decode(raw, type=_Document)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{digest} is no manifest: {error}") from error
        if document.manifests is None:
            if document.config is None:
                raise InvalidArgument(f"{digest} is no manifest of an image")
            return digest, raw, document
        digest = _chosen(document.manifests, platform, digest).digest
    raise InvalidArgument(f"{digest}: there are indexes in indexes without end")


def _chosen(manifests: list[Descriptor], platform: Platform, digest: str) -> Descriptor:
    fits: list[Callable[[Descriptor], bool]] = [
        lambda one: one.platform is not None and _runs(platform, one.platform),
        lambda one: one.platform is None,
    ]
    for fit in fits:
        if found := next(filter(fit, manifests), None):
            return found
    raise NotFound(f"no match for platform {platform} in {digest}")


def _runs(platform: Platform, other: PlatformBody) -> bool:
    return platform.runs(Platform.of(other.os, other.architecture, other.variant))


def _media_type(raw: bytes) -> str:
    found = msgspec.json.decode(raw, type=dict[str, Any]).get("mediaType")
    return str(found or "application/vnd.oci.image.manifest.v1+json")


def _path(digest: str) -> str:
    return "blobs/" + parse_digest(digest).replace(":", "/")


def _entry(path: str, size: int) -> Entry:
    if size < 0:
        raise InvalidArgument(f"{path}: invalid size {size}")
    return Entry(path.encode(), REGULAR, 0o644, 0, 0, size, 0, b"", 0, 0)
