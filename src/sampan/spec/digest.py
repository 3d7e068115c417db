"""Content digests: `sha256:…`, and the chain ids made from them.

A `Digest` is a checked string for the type checker and a plain string at run time, so that it
travels in every document and every call.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NewType

from sampan.errors import InvalidArgument

Digest = NewType("Digest", str)

# Source: opencontainers/image-spec descriptor.md, "Digests"; go-digest algorithm.go.
_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_PATTERN = re.compile(r"([a-z0-9]+(?:[.+_-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_HEX = re.compile(r"[a-f0-9]+")

EMPTY_LAYER = Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")
"""The diff id of a tar of 1024 zero bytes: a layer that changes nothing (moby layer/empty.go)."""


def parse_digest(text: str) -> Digest:
    """Return `text` as a digest; raise InvalidArgument in go-digest's words if it is none."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidArgument("invalid checksum digest format")
    length = _LENGTHS.get(match[1])
    if length is None:
        raise InvalidArgument("unsupported digest algorithm")
    if len(match[2]) != length:
        raise InvalidArgument("invalid checksum digest length")
    if not _HEX.fullmatch(match[2]):
        raise InvalidArgument("invalid checksum digest format")
    return Digest(text)


def digest_of(content: bytes, kind: str = "sha256") -> Digest:
    """Return the digest of `content`, by the algorithm `kind`."""
    return Digest(f"{kind}:{hashlib.new(kind, content).hexdigest()}")


def algorithm(digest: Digest) -> str:
    """Return what is before the colon."""
    return digest.partition(":")[0]


def encoded(digest: Digest) -> str:
    """Return the hexadecimal digits: what is after the colon."""
    return digest.partition(":")[2]


def chain_ids(diff_ids: Iterable[str]) -> Iterator[Digest]:
    """Yield the chain id of each prefix of `diff_ids`, lowest layer first.

    Source: opencontainers/image-spec config.md, "Layer ChainID".
    """
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = Digest(diff_id) if chain is None else digest_of(f"{chain} {diff_id}".encode())
        yield chain


def chain_id(diff_ids: Iterable[str]) -> Digest | None:
    """Return the chain id of all layers together; None for no layer."""
    chains = list(chain_ids(diff_ids))
    return chains[-1] if chains else None
