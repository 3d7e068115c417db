"""Look after the users of a registry's token service."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "ACTION [NAME]"
OPERANDS = (1, 2)
LONG = """The actions are add NAME, disable NAME, enable NAME, import HTPASSWD_FILE, ls, passwd
NAME and rm NAME. All work while the service runs. A password is asked for on a terminal."""


class Options:
    config: str = flag("c", "Configuration file (default $REGISTRY_CONFIGURATION_PATH)", default="")
    group: list[str] = flag("g", "Group of a new user", kind="list")
    password_stdin: bool = flag("", "Read the password from standard input")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--config", options.config] if options.config else []),
        *(word for group in options.group for word in ("--group", group)),
        *(["--password-stdin"] if options.password_stdin else []),
    ]
    become("user", *flags, "--", *operands)
