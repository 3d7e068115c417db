"""Take back an interface that was plugged into a container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER INTERFACE"
OPERANDS = (2, 2)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    container, interface = operands
    cli.client.networks.unplug(container, interface)
    return 0
