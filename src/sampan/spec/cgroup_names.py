"""Where systemd keeps the control groups of slices. Source: systemd.slice(5)."""

from __future__ import annotations

from sampan.errors import InvalidArgument

SLICE = ".slice"


def slice_path(name: str) -> str:
    """Return the path of "a-b.slice", /a.slice/a-b.slice; "" for the root slice.

    Raises InvalidArgument for a name that no slice has.
    """
    if name == "-.slice":
        return ""
    pieces = name.removesuffix(SLICE).split("-")
    if not name.endswith(SLICE) or "/" in name or "\0" in name or not all(pieces):
        raise InvalidArgument(f'invalid slice name: "{name}"')
    ends = range(1, len(pieces) + 1)
    return "".join(f"/{'-'.join(pieces[:end])}{SLICE}" for end in ends)
