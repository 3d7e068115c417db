"""Pause all processes of one or more containers."""

from __future__ import annotations

from sampan.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container pause, pause"
OPERANDS = (1, None)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    return each(cli, operands, lambda client, name: client.containers.pause(name))
