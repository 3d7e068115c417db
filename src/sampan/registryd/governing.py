"""From a checked configuration to the rules by which a registry is kept: ours, not docker's."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import Checked
from sampan.registry.configuration.nodes import size
from sampan.registry.patterns import Pattern
from sampan.registry.quotas import Quota


def quotas(checked: Checked) -> list[Quota]:
    """Return how much repositories may have."""
    found = []
    for number, given in enumerate(checked.get("quotas", [])):
        try:
            found.append(
                Quota(
                    Pattern(str(given["repositories"])),
                    size(given["size"]) if given.get("size") is not None else None,
                    given.get("tags"),
                    bool(given.get("together")),
                )
            )
        except InvalidArgument as error:
            raise InvalidArgument(f"quotas[{number}]: {error}") from error
    return found
