"""How docker-registry keeps descriptors of blobs in Redis; the same in 2.8 and 3.1.

    repository::NAME::blobs            a set: the digests that a repository has
    repository::NAME::blobs::DIGEST    a hash: `mediatype` there
    blobs::DIGEST                      a hash: `digest`, `size`, `mediatype` of the content

A blob is there for docker-registry if all three say so; a manifest's content needs the last one.
Source: distribution registry/storage/cache/redis/redis.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sampan.errors import InvalidArgument
from sampan.registry import names
from sampan.registry.errors import RegistryError
from sampan.spec.digest import Digest, parse_digest

MEDIA_TYPE = "application/octet-stream"  # what docker-registry calls every blob
REPOSITORY, BLOBS = "repository::", "blobs::"
PATTERNS = (f"{REPOSITORY}*", f"{BLOBS}*")
_INSIDE = "::blobs"


@dataclass(frozen=True, slots=True)
class Key:
    """What a key is about: a repository's set, its hash of one digest, or the content's hash."""

    repository: str = ""
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What the rows say of a digest in a repository; of the content alone if that is empty."""

    repository: str
    digest: Digest
    size: int | None  # None: the content is gone
    linked: bool


def members(repository: str) -> str:
    """Return the key of the set of what a repository has."""
    return f"{REPOSITORY}{repository}{_INSIDE}"


def within(repository: str, digest: str) -> str:
    """Return the key of what is said of a digest in one repository."""
    return f"{members(repository)}::{digest}"


def content(digest: str) -> str:
    """Return the key of what is said of a content."""
    return f"{BLOBS}{digest}"


def parse(key: bytes) -> Key | None:
    """Return what a key is about; None if it is somebody else's."""
    text = key.decode("ascii", "replace")
    try:
        if text.startswith(BLOBS):
            return Key(digest=parse_digest(text.removeprefix(BLOBS)))
        name, found, digest = text.removeprefix(REPOSITORY).partition(_INSIDE)
        if not found:
            return None
        names.repository(name)
        if not digest:
            return Key(name)
        return Key(name, parse_digest(digest.removeprefix("::")))
    except (InvalidArgument, RegistryError):
        return None


def removals(pipeline: Any, states: Iterable[State]) -> int:
    """Put what has to be taken away into a pipeline; return of how many digests."""
    count = 0
    for state in states:
        if state.repository and not state.linked:
            pipeline.srem(members(state.repository), state.digest)
            pipeline.delete(within(state.repository, state.digest))
        if state.size is None:
            pipeline.delete(content(state.digest))
        count += state.size is None or (bool(state.repository) and not state.linked)
    return count


def additions(pipeline: Any, states: Iterable[State]) -> int:
    """Put what is there into a pipeline; return how many digests that are."""
    count = 0
    for state in states:
        if state.size is None or (state.repository and not state.linked):
            continue
        count += 1
        key = content(state.digest)
        pipeline.hset(key, mapping={"digest": state.digest, "size": state.size})
        pipeline.hsetnx(key, "mediatype", MEDIA_TYPE)
        if state.repository:
            pipeline.hset(within(state.repository, state.digest), "mediatype", MEDIA_TYPE)
            pipeline.sadd(members(state.repository), state.digest)
    return count
