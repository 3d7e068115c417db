"""Wait until one or more containers stop, and print their exit statuses."""

from __future__ import annotations

from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container wait, wait"
OPERANDS = (1, None)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    errors = []
    for container in operands:
        try:
            cli.out.line(cli.client.containers.wait(container).result()["StatusCode"])
            cli.out.flush()
        except SampanError as error:
            errors.append(str(error))
    if errors:
        raise Exit(1, "\n".join(errors))
    return 0
