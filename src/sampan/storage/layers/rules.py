"""How an archive is written into a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

OPAQUE: Final = "trusted.overlay.opaque"

Whiteouts = Literal["overlay", "delete", "drop", "plain"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How an archive is written.

    `whiteouts`: "overlay" makes the kernel's marks, "delete" removes what is there, "drop"
    ignores them (nothing is below), "plain" takes them for ordinary files. `fresh`: the tree was
    empty, so nothing has to be undone that a directory passes on. `owner`: of all that is made.
    `strict_kinds`: a directory is never replaced by something else, nor the other way round.
    `opaque`: the attribute of a directory that hides what is below.
    """

    whiteouts: Whiteouts
    fresh: bool = False
    owner: tuple[int, int] | None = None
    strict_kinds: bool = False
    opaque: str = OPAQUE
