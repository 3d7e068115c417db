"""Values of fields in flags of instructions."""

from __future__ import annotations

from typing import Final

from sampan.errors import InvalidArgument

_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")  # Go's strconv.ParseBool
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")


def boolean(key: str, text: str) -> bool:
    """Return what a switch says; InvalidArgument."""
    if text not in _TRUE + _FALSE:
        raise InvalidArgument(f"invalid value for {key}: {text}")
    return text in _TRUE
