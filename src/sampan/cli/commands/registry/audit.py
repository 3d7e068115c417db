"""Verify that the audit logs of a registry are what was written."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[FILE...]"
OPERANDS = (0, None)
LONG = """Without files, the one that the configuration names; with several, the oldest first. The
status is 1 if a line was changed, moved or taken out."""


class Options:
    config: str = flag("c", "Configuration file (default $REGISTRY_CONFIGURATION_PATH)", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--config", options.config] if options.config else []),
    ]
    become("audit", *flags, *operands)
