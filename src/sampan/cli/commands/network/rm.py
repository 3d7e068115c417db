"""Remove one or more networks."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.each import each
from sampan.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.client.api import Client

USAGE = "NETWORK [NETWORK...]"
ALIASES = "network rm, network remove"
OPERANDS = (1, None)


class Options:
    force: bool = flag("f", "Do not mind networks that are not there")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    def remove(client: Client, name: str) -> None:
        try:
            client.networks.remove(name)
        except NotFound as error:
            if options.force:
                raise NotFound("") from error  # neither printed as removed nor a failure
            raise

    return each(cli, operands, remove)
