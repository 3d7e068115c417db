"""Remove one or more volumes that no container has."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.client.api import Client

USAGE = "VOLUME [VOLUME...]"
ALIASES = "volume rm, volume remove"
OPERANDS = (1, None)


class Options:
    force: bool = flag("f", "Do not mind volumes that are not there, or drivers that fail")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    def remove(client: Client, name: str) -> None:
        client.volumes.remove(name, options.force)

    return each(cli, operands, remove)
