"""Stop one or more running containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.each import each
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container stop, stop"
OPERANDS = (1, None)


class Options:
    changed: set[str]
    signal: str = flag("s", "Signal that asks the process to stop", default="")
    timeout: int = flag("t", "Seconds to wait before killing the container", kind="int")
    time: int = hidden("timeout", "use --timeout instead", kind="int")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if {"time", "timeout"} <= options.changed:
        raise Exit(1, "conflicting options: cannot specify both --timeout and --time")
    timeout = options.timeout if {"time", "timeout"} & options.changed else None
    return each(
        cli,
        operands,
        lambda client, name: client.containers.stop(name, options.signal, timeout),
    )
