"""Say who may do what in a registry."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "ACTION [WORD...]"
OPERANDS = (1, 4)
LONG = """The actions are add SUBJECT PATTERN ACTIONS, ls and rm NUMBER. SUBJECT is everybody,
users, user:NAME or group:NAME; PATTERN is a repository in which * stands for a part of a path, **
for any number of parts, $user and $group for who asks; ACTIONS are pull, push and delete, or
all."""


class Options:
    config: str = flag("c", "Configuration file (default $REGISTRY_CONFIGURATION_PATH)", default="")
    type: str = flag("", "What a new rule is about: repository or registry (catalog)", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--config", options.config] if options.config else []),
        *(["--type", options.type] if options.type else []),
    ]
    become("rule", *flags, "--", *operands)
