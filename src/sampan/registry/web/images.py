"""What a manifest and its configuration say of an image, as far as they say it rightly.

All of it was written by whoever pushed it: nothing here trusts a type, a size or a sentence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sampan.registry.content.documents import LARGEST
from sampan.registry.errors import RegistryError
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from sampan.spec.image import DOCUMENT_LIMIT, INDEXES

TEXT = 4000  # characters of one value that are shown
MANY = 500  # rows of one table
SIMPLE = ("User", "WorkingDir", "StopSignal")
LISTS = ("Entrypoint", "Cmd", "Env", "Shell", "OnBuild")
MAPS = ("ExposedPorts", "Volumes")


@dataclass(frozen=True)
class Part:
    """A descriptor: a layer, a configuration, or a manifest of an index."""

    digest: str
    media_type: str
    size: int
    platform: str = ""
    kind: str = ""  # of an artifact
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One line of an image's history, with the layer that it made, if it did."""

    created: str
    command: str
    comment: str
    layer: Part | None


@dataclass(frozen=True)
class Image:
    """All that is known of what a reference leads to."""

    digest: str
    media_type: str
    size: int  # of the manifest
    total: int  # bytes that a pull takes, as the manifest says
    kind: str
    platform: str
    created: str
    is_index: bool
    parts: list[Part]
    steps: list[Step]
    settings: list[tuple[str, list[str]]]
    labels: dict[str, str]
    annotations: dict[str, str]
    subject: str
    tags: list[str]
    referrers: list[Part]


def describe(registry: Registry, repository: str, reference: str) -> Image:
    """Read all about an image or an index. Raises MANIFEST_UNKNOWN. Blocks."""
    stored, content = registry.manifests.read(repository, reference)
    manifest = _map(_decoded(content))
    parts = list(_parts(manifest.get("manifests"))) or list(_parts(manifest.get("layers")))
    is_index = stored.media_type in INDEXES
    configuration = {} if is_index else _configuration(registry, repository, manifest)
    inner = _map(configuration.get("config"))
    config = _map(manifest.get("config"))
    kind = _text(manifest.get("artifactType")) or _text(config.get("mediaType"))
    total = 0 if is_index else sum(part.size for part in parts) + _size(config.get("size"))
    query = "SELECT name FROM tags WHERE repository = ? AND digest = ? ORDER BY name LIMIT ?"
    tags = [name for (name,) in registry.metadata.rows(query, repository, stored.digest, MANY)]
    return Image(
        digest=stored.digest,
        media_type=stored.media_type,
        size=stored.size,
        total=total,
        kind=kind,
        platform=_platform(configuration),
        created=_text(configuration.get("created")),
        is_index=is_index,
        parts=parts,
        steps=list(_steps(configuration.get("history"), parts)),
        settings=list(_settings(inner)),
        labels=_texts(inner.get("Labels")),
        annotations=_texts(manifest.get("annotations")),
        subject=_text(_map(manifest.get("subject")).get("digest")),
        tags=tags,
        referrers=_referrers(registry, repository, stored.digest),
    )


def _configuration(registry: Registry, repository: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of an image; empty for an artifact, or if it cannot be read."""
    digest = _map(manifest.get("config")).get("digest")
    if not isinstance(digest, str):
        return {}
    try:
        with registry.blobs.open(repository, Digest(digest)) as content:
            if content.size > DOCUMENT_LIMIT:
                return {}
            return _map(_decoded(content.read(0, content.size)))
    except (RegistryError, OSError, sqlite3.Error):
        return {}


def _referrers(registry: Registry, repository: str, digest: Digest) -> list[Part]:
    page = registry.lists.referrers(repository, digest, "", "")
    return [
        Part(
            *(item["digest"], item["mediaType"], item["size"]),
            kind=item.get("artifactType", ""),
            annotations=_texts(item.get("annotations")),
        )
        for item in page.items[:MANY]
    ]


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return None


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value[:MANY] if isinstance(value, list) else []


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return value if len(value) <= TEXT else value[:TEXT] + "…"


def _texts(value: Any) -> dict[str, str]:
    found = list(_map(value).items())[:MANY]
    return {_text(key): _text(text) for key, text in found if isinstance(text, str)}


def _size(value: Any) -> int:
    is_size = isinstance(value, int) and not isinstance(value, bool)
    return value if is_size and 0 <= value <= LARGEST else 0


def _platform(value: dict[str, Any]) -> str:
    words = (value.get("os"), value.get("architecture"), value.get("variant"))
    return "/".join(word for word in map(_text, words) if word)


def _parts(value: Any) -> Iterator[Part]:
    for item in map(_map, _list(value)):
        yield Part(
            *(_text(item.get("digest")), _text(item.get("mediaType")), _size(item.get("size"))),
            platform=_platform(_map(item.get("platform"))),
            kind=_text(item.get("artifactType")),
            annotations=_texts(item.get("annotations")),
        )


def _steps(history: Any, layers: list[Part]) -> Iterator[Step]:
    rest = iter(layers)
    for item in map(_map, _list(history)):
        layer = None if item.get("empty_layer") is True else next(rest, None)
        created, command = _text(item.get("created")), _text(item.get("created_by"))
        yield Step(created, command, _text(item.get("comment")), layer)


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for name in SIMPLE:
        if text := _text(config.get(name)):
            yield name, [text]
    for name in LISTS:
        if words := [_text(word) for word in _list(config.get(name)) if isinstance(word, str)]:
            yield name, words
    for name in MAPS:
        if words := sorted(map(_text, list(_map(config.get(name)))[:MANY])):
            yield name, words
