"""Sizes as people write them: "10G", "512m", "1.5 GiB"."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_LONGEST: Final = 32


def parse_size(text: str) -> int:
    """Return the bytes that a size stands for; units are powers of 1024. Raises ValueError.

    Source: docker/go-units size.go, RAMInBytes.
    """
    found = _SIZE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"invalid size: '{text}'")
    whole, _, fraction = found[1].partition(".")
    unit = 1 << 10 * " kmgtp".index(found[2].lower() or " ")
    size = int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
    if size >= 1 << 63:
        raise ValueError(f"invalid size: '{text}'")
    return size
