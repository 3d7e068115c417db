"""Rename a container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER NEW_NAME"
ALIASES = "container rename, rename"
OPERANDS = (2, 2)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    container, new_name = operands
    cli.client.containers.rename(container, new_name)
    return 0
