"""Look after logins at a registry's token service."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "ACTION [ID]"
OPERANDS = (1, 2)
LONG = """The actions are ls and rm ID, or rm --user NAME for all of a user. A login that ends
gives no new token; one that was given is valid for some minutes."""


class Options:
    config: str = flag("c", "Configuration file (default $REGISTRY_CONFIGURATION_PATH)", default="")
    user: str = flag("u", "User whose logins end", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--config", options.config] if options.config else []),
        *(["--user", options.user] if options.user else []),
    ]
    become("session", *flags, "--", *operands)
