"""What a cache that is stored elsewhere says: steps by their keys, and the layers that they made.

The documents are BuildKit's. The keys are those of our own steps: BuildKit's come from its graph
language, and mean nothing here, as ours mean nothing there (decision 032).

Source: buildkit cache/remotecache/v1/types/spec.go, cache/remotecache/v1/parse.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sampan.errors import InvalidArgument
from sampan.spec.digest import parse_digest
from sampan.spec.image import Descriptor, nanoseconds, timestamp

MEDIA_CACHE: Final = "application/vnd.buildkit.cacheconfig.v0"
INLINE: Final = "moby.buildkit.cache.v0"  # the field of an image's configuration
UNCOMPRESSED: Final = "containerd.io/uncompressed"  # annotation of a layer: its diff id
LIMIT: Final = 4 << 20  # bytes of the records
_KEY: Final = re.compile(r"sha256:([0-9a-f]{64})")
_DEPTH: Final = 127  # layers on each other
_LAYERS: Final = 4096


class _Layer(msgspec.Struct, omit_defaults=True):
    blob: str
    parent: int = 0


class _Result(msgspec.Struct):
    layer: int
    created: str = msgspec.field(name="createdAt", default="")


class _Chain(msgspec.Struct):
    layers: list[int] | None
    created: str = msgspec.field(name="createdAt", default="")


class StoredRecord(msgspec.Struct, omit_defaults=True):
    """One step of a stored cache."""

    digest: str = ""
    results: list[_Result] | None = msgspec.field(name="layers", default=None)
    chains: list[_Chain] | None = None


class _Config(msgspec.Struct, omit_defaults=True):
    layers: list[_Layer] | None = None
    records: list[StoredRecord] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step: when it was made, and the layers that it ends with (none if it made none)."""

    created: int  # nanoseconds
    layers: Sequence[str] = ()  # diff ids, lowest first
    description: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer as it is stored."""

    descriptor: Descriptor
    diff_id: str


def parse_records(
    content: bytes, layers: Mapping[str, Blob]
) -> dict[str, tuple[int, Sequence[Blob]]]:
    """Return the steps of a cache by their keys, each with its time and its layers.

    `layers` are those that its manifest has, by digest. What names others is left out. Raises
    InvalidArgument for what is no cache.
    """
    config: _Config = _decoded(content, _Config)
    stored = config.layers or []
    if len(stored) > _LAYERS:
        raise InvalidArgument(f"the cache has more than {_LAYERS} layers")
    paths = [_path(stored, number) for number in range(len(stored))]
    found: dict[str, tuple[int, Sequence[Blob]]] = {}
    for record in config.records or []:
        match = _KEY.fullmatch(record.digest)
        if match is None:
            continue
        for result in record.results or []:
            if not 0 <= result.layer < len(paths):
                raise InvalidArgument(f"invalid layer index {result.layer}")
            path = [layers.get(digest) for digest in paths[result.layer]]
            _add(found, match[1], result.created, path)
        for chain in record.chains or []:
            indexes = chain.layers or []
            if any(not 0 <= one < len(paths) for one in indexes):
                raise InvalidArgument("invalid layer index in a chain")
            blobs = [layers.get(stored[one].blob) for one in indexes]
            _add(found, match[1], chain.created, blobs)
    return found


def parse_inline(content: bytes, layers: Sequence[Blob]) -> dict[str, tuple[int, Sequence[Blob]]]:
    """Return the steps that an image's configuration tells of; its layers are in order."""
    records: list[StoredRecord] = _decoded(content, list[StoredRecord])
    stored = [_Layer(blob.descriptor.digest, number - 1) for number, blob in enumerate(layers)]
    known = {blob.descriptor.digest: blob for blob in layers}
    return parse_records(msgspec.json.encode(_Config(stored, records)), known)


def _add(
    found: dict[str, tuple[int, Sequence[Blob]]],
    key: str,
    created: str,
    blobs: Sequence[Blob | None],
) -> None:
    known = [blob for blob in blobs if blob is not None]
    if len(known) == len(blobs):
        found[key] = nanoseconds(created), known


def _path(layers: Sequence[_Layer], number: int) -> list[str]:
    """Return the digests of a layer and all below it, lowest first."""
    path: list[str] = []
    while number != -1:
        if not 0 <= number < len(layers):
            raise InvalidArgument(f"invalid layer index {number}")
        if len(path) >= min(len(layers), _DEPTH):
            raise InvalidArgument("invalid looping layer")
        path.append(layers[number].blob)
        number = layers[number].parent
    return path[::-1]


def _decoded(content: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid cache: {error}") from error


def write_records(steps: Mapping[str, Step], forms: Mapping[str, Descriptor]) -> bytes:
    """Return the document of steps by their keys; `forms` are all their layers, by diff id."""
    places: dict[tuple[str, ...], int] = {}
    layers: list[_Layer] = []
    for step in steps.values():
        for count in range(1, len(step.layers) + 1):
            path = tuple(step.layers[:count])
            if path not in places:
                places[path] = len(layers)
                parent = places[path[:-1]] if count > 1 else -1
                layers.append(_Layer(forms[path[-1]].digest, parent))
    records = [_record(key, step, places) for key, step in sorted(steps.items())]
    return msgspec.json.encode(_Config(layers, records))


def write_inline(steps: Mapping[str, Step], layers: Sequence[str]) -> bytes:
    """Return what an image with these layers tells of the steps that made it."""
    places = {tuple(layers[:count]): count - 1 for count in range(1, len(layers) + 1)}
    own = [
        _record(key, step, places)
        for key, step in sorted(steps.items())
        if not step.layers or tuple(step.layers) in places
    ]
    return msgspec.json.encode(own)


def _record(key: str, step: Step, places: Mapping[tuple[str, ...], int]) -> StoredRecord:
    created = timestamp(step.created)
    if not step.layers:
        return StoredRecord(f"sha256:{key}", chains=[_Chain([], created)])
    return StoredRecord(f"sha256:{key}", results=[_Result(places[tuple(step.layers)], created)])


def blob_of(descriptor: Descriptor, diff_id: str = "") -> Blob | None:
    """Return a layer of a manifest, None if nobody says what its content is."""
    diff_id = diff_id or (descriptor.annotations or {}).get(UNCOMPRESSED, "")
    try:
        parse_digest(descriptor.digest)
        return Blob(descriptor, parse_digest(diff_id))
    except InvalidArgument:
        return None
