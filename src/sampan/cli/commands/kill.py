"""Send a signal to one or more running containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container kill, kill"
OPERANDS = (1, None)


class Options:
    signal: str = flag("s", "Signal to send", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    return each(cli, operands, lambda client, name: client.containers.kill(name, options.signal))
