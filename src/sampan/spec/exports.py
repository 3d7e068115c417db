"""What outputs of builds say of layers: where they lie, and in which form they are wanted.

Source: buildkit util/compression, exporter/containerimage/exptypes/keys.go.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.image import (
    MEDIA_DOCKER_LAYER,
    MEDIA_DOCKER_LAYER_GZIP,
    MEDIA_LAYER,
    MEDIA_LAYER_GZIP,
    MEDIA_LAYER_ZSTD,
    Descriptor,
)

_KINDS: Final = ("uncompressed", "gzip", "zstd")
_MOST: Final = {"uncompressed": 0, "gzip": 9, "zstd": 22}  # levels


class LayerPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of an image: its content, and the snapshot that it is in its place."""

    diff_id: str
    chain: str


class Compression(msgspec.Struct, frozen=True, kw_only=True):
    """The form in which layers are wanted."""

    kind: str = "gzip"
    level: int | None = None  # None: what is fast
    force: bool = False  # also of layers that there are in another form

    @property
    def media_type(self) -> str:
        """The type of such a layer."""
        kinds = {"gzip": MEDIA_LAYER_GZIP, "zstd": MEDIA_LAYER_ZSTD}
        return kinds.get(self.kind, MEDIA_LAYER)


GZIP: Final = Compression()


def parse_compression(kind: str, level: str, *, force: bool) -> Compression:
    """Return what attributes of an output ask for, "" for nothing. Raises Unsupported."""
    kind = kind or "gzip"
    if kind not in _KINDS:
        raise Unsupported(f'compression type "{kind}" is not supported')
    number = None
    if level:
        if not (level.isascii() and level.isdecimal() and int(level[:9]) <= _MOST[kind]):
            raise InvalidArgument(f"invalid compression level: {level}")
        number = int(level)
    return Compression(kind=kind, level=number, force=force)


def typed(layer: Descriptor, *, oci: bool) -> Descriptor:
    """Return a layer with the media type that fits the manifest; Docker has none for zstd."""
    if "zstd" in layer.media_type:
        kind = MEDIA_LAYER_ZSTD
    elif layer.media_type in (MEDIA_LAYER, MEDIA_DOCKER_LAYER):
        kind = MEDIA_LAYER if oci else MEDIA_DOCKER_LAYER
    else:
        kind = MEDIA_LAYER_GZIP if oci else MEDIA_DOCKER_LAYER_GZIP
    return Descriptor(media_type=kind, digest=layer.digest, size=layer.size)
