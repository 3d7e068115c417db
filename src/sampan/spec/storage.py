"""What the engine says of its own disk, and Docker does not: checks, and what bytes belong to."""

from __future__ import annotations

import msgspec


class CheckProblem(msgspec.Struct, rename="pascal", kw_only=True):
    """Something that is not as it should be."""

    kind: str  # image, reference, layer, blob, container, mount
    object: str
    message: str  # one sentence
    repaired: bool = False


class CheckCounts(msgspec.Struct, rename="pascal", kw_only=True):
    """What was looked at."""

    images: int = 0
    layers: int = 0
    blobs: int = 0
    references: int = 0
    mounts: int = 0
    bytes: int = 0  # that were read


class CheckReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to GET and POST /system/check."""

    problems: list[CheckProblem] = []
    checked: CheckCounts = msgspec.field(default_factory=CheckCounts)


class StorageItem(msgspec.Struct, rename="pascal", kw_only=True):
    """One kind of things on the disk; `Storage` in GET /system/df?verbose=1."""

    kind: str
    count: int = 0
    size: int = 0  # allocated bytes
    reclaimable: int = 0  # of those, what a prune gives back
