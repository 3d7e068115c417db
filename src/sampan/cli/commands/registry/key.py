"""Look after the keys that sign a registry's tokens."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "ACTION"
OPERANDS = (1, 1)
LONG = """The actions are ls and rotate. A new key signs ten minutes after it was made, when
registries have read it; with --now at once, and what the old ones signed is worth nothing."""


class Options:
    config: str = flag("c", "Configuration file (default $REGISTRY_CONFIGURATION_PATH)", default="")
    now: bool = flag("", "The old keys were stolen: end them now")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--config", options.config] if options.config else []),
        *(["--now"] if options.now else []),
    ]
    become("key", *flags, "--", *operands)
