"""Remove one or more containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.each import each
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.client.api import Client

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container rm, container remove, rm"
OPERANDS = (1, None)


class Options:
    force: bool = flag("f", "Remove even a running container (it is killed)")
    link: bool = flag("l", "Remove a link, not the container")
    volumes: bool = flag("v", "Remove its anonymous volumes too")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    def remove(client: Client, name: str) -> None:
        name = name.strip("/")
        if not name:
            raise InvalidArgument("container name cannot be empty")
        try:
            client.containers.remove(name, options.force, options.volumes, options.link)
        except NotFound as error:
            if not options.force:
                raise
            cli.err.line(error)
            raise NotFound("") from error  # neither printed as removed nor a failure

    return each(cli, operands, remove)
