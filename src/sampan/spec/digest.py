"""Content digests: `sha256:…`, and the chain ids made from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Self

from sampan.errors import InvalidArgument

# Source: opencontainers/image-spec descriptor.md, "Digests"; go-digest algorithm.go.
_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_PATTERN = re.compile(r"([a-z0-9]+(?:[.+_-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_HEX = re.compile(r"[a-f0-9]+")


class Digest(str):
    """A checked digest; a string everywhere a string is wanted."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a digest; raise InvalidArgument if it is none.

        The sentences are go-digest's.
        """
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
        return cls(text)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return the SHA-256 digest of `content`."""
        return cls(f"sha256:{hashlib.sha256(content).hexdigest()}")

    @classmethod
    def from_hex(cls, hexadecimal: str) -> Self:
        """Return the SHA-256 digest whose 64 digits are `hexadecimal`."""
        return cls.parse(f"sha256:{hexadecimal}")

    @property
    def algorithm(self) -> str:
        """What is before the colon."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """What is after the colon."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The twelve digits that people see."""
        return self.hex[:12]


EMPTY_LAYER = Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")
"""The diff id of a tar of 1024 zero bytes: a layer that changes nothing (moby layer/empty.go)."""


def chain_ids(diff_ids: Iterable[str]) -> Iterator[Digest]:
    """Yield the chain id of each prefix of `diff_ids`, lowest layer first.

    Source: opencontainers/image-spec config.md, "Layer ChainID".
    """
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = Digest(diff_id) if chain is None else Digest.of(f"{chain} {diff_id}".encode())
        yield chain


def chain_id(diff_ids: Iterable[str]) -> Digest | None:
    """Return the chain id of all layers together; None for no layer."""
    chains = list(chain_ids(diff_ids))
    return chains[-1] if chains else None
