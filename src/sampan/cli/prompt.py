"""Questions before something is removed."""

from __future__ import annotations

import os

from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation


def confirm(cli: Invocation, question: str) -> None:
    """Ask; anything but y ends the command without a message, and well, as docker does."""
    cli.out.write(f"{question} [y/N] ")
    cli.out.flush()
    answer = b""
    while not answer.endswith(b"\n"):
        character = os.read(0, 1)
        if not character:
            break
        answer += character
    if answer.strip().lower() != b"y":
        raise Exit(0)


def with_default_filters(cli: Invocation, filters: dict[str, list[str]]) -> dict[str, list[str]]:
    """Add the prune filters of config.json, except those that the command line contradicts."""
    found = {name: [*values] for name, values in filters.items()}
    configured = cli.settings.get("pruneFilters")
    for text in configured if isinstance(configured, list) else []:
        name, equals, value = str(text).partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name, "")
        if equals and value not in found.get(opposite, []):
            found.setdefault(name, []).append(value)
    return found
