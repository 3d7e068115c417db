"""Say what this host lacks for containers, and how to get it."""

from __future__ import annotations

import os
import sys

from sampan.cli.flags import flag
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "system doctor, doctor"
OPERANDS = (0, 0)
DAEMON = "sampand"


class Options:
    format: str = flag("", "'text', or 'json' for programs", default="text")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    """Become the daemon program's own examination: it needs no running daemon."""
    if options.format not in ("text", "json"):
        raise Exit(125, f'invalid format "{options.format}": must be one of "text" or "json"')
    import shutil

    program = os.path.join(os.path.dirname(sys.executable), DAEMON)
    found = program if os.access(program, os.X_OK) else shutil.which(DAEMON)
    if not found:
        raise Exit(1, f"the program {DAEMON} is not installed")
    arguments = [found, "--doctor"]
    if options.format == "json":
        arguments.append("--format=json")
    os.execv(found, arguments)  # noqa: S606 - no shell is what is wanted
