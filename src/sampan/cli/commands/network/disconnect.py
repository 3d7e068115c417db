"""Take a container off a network."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "NETWORK CONTAINER"
OPERANDS = (2, 2)


class Options:
    force: bool = flag("f", "Also if the container is not there")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    network, container = operands
    cli.client.networks.disconnect(network, container, options.force)
    return 0
