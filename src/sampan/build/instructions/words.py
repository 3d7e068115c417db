"""Values of fields in flags of instructions."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.spec.booleans import parse_bool


def boolean(key: str, text: str) -> bool:
    """Return what a switch says; InvalidArgument."""
    try:
        return parse_bool(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid value for {key}: {text}") from error
