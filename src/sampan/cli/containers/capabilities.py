"""`--cap-add` and `--cap-drop`, in the one spelling in which they are sent to the daemon."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "ALL"


def effective(add: Sequence[str], drop: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return both lists: spelled out, sorted; what is added is not dropped, ALL is all.

    Source: docker/cli opts/capabilities.go, EffectiveCapAddCapDrop.
    """
    added, dropped = _named(add), _named(drop)
    return sorted(added), sorted(dropped - added)


def _named(names: Sequence[str]) -> set[str]:
    found = {_full(name) for name in names if name.strip()}
    return {ALL} if ALL in found else found


def _full(name: str) -> str:
    name = name.strip().upper()
    return name if name == ALL or name.startswith("CAP_") else f"CAP_{name}"
