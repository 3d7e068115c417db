"""Create a container without starting it."""

from __future__ import annotations

from sampan.cli.containers.creation import build
from sampan.cli.containers.creation import create as create_container
from sampan.cli.containers.flags import ContainerOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "IMAGE [COMMAND] [ARG...]"
ALIASES = "container create, create"
OPERANDS = (1, None)
INTERSPERSED = False
OWN_H = True


class Options(ContainerOptions):
    """The flags of `run` that say what the container is."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    cli.out.line(create_container(cli, options, build(cli, options, operands)))
    return 0
