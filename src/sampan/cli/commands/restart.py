"""Restart one or more containers."""

from __future__ import annotations

from sampan.cli.containers.stopping import StopOptions
from sampan.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container restart, restart"
OPERANDS = (1, None)


class Options(StopOptions):
    """What both have."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    seconds = options.seconds
    return each(
        cli,
        operands,
        lambda client, name: client.containers.restart(name, options.signal, seconds),
    )
