"""Containers named on the command line, one or, as crun has it, by pattern."""

from __future__ import annotations

import re

from sampan.errors import InvalidArgument
from sampan.runtime.container import list_all


def selected(root: str, name: str, *, is_pattern: bool) -> list[str]:
    """Return the ids meant by `name`; raises InvalidArgument for a broken pattern."""
    if not is_pattern:
        return [name]
    try:
        pattern = re.compile(name)
    except re.error as error:
        raise InvalidArgument(f"invalid regular expression {name!r}: {error}") from None
    return [container.id for container in list_all(root) if pattern.search(container.id)]
