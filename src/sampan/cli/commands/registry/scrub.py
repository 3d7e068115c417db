"""Read all that a registry stores, and see whether it is damaged."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """A registry that runs does it, while clients push and pull; else it is done on its files.
What is damaged counts as unknown from then on, until somebody pushes it again. The status is 1 if
there is anything."""


class Options:
    rate: str = flag("", "Bytes a second, such as 50MB (0: any number)", default="")
    report: bool = flag("", "Only tell what is damaged")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--rate", options.rate] if options.rate else []),
        *(["--report"] if options.report else []),
    ]
    become("scrub", *flags, *operands)
