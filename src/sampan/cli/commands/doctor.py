"""Say what this host lacks for containers, and how to get it."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.daemon_program import become
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "system doctor, doctor"
OPERANDS = (0, 0)


class Options:
    format: str = flag("", "'text', or 'json' for programs", default="text")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    """Become the daemon program's own examination: it needs no running daemon."""
    if options.format not in ("text", "json"):
        raise Exit(125, f'invalid format "{options.format}": must be one of "text" or "json"')
    become(["--doctor", *(["--format=json"] if options.format == "json" else [])])
