"""Look after the groups of a registry's users."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "ACTION [NAME...]"
OPERANDS = (1, 3)
LONG = """The actions are add NAME, join USER GROUP, leave USER GROUP, ls and rm NAME."""


class Options:
    config: str = flag("c", "Configuration file (default $REGISTRY_CONFIGURATION_PATH)", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--config", options.config] if options.config else []),
    ]
    become("group", *flags, "--", *operands)
