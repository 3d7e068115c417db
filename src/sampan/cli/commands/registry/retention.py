"""Remove the tags of a registry that its configuration does not keep."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """A registry that runs does it, while clients push and pull; else it is done on its files.
The rules are those of `retention` in the configuration, which a registry also applies by
itself."""


class Options:
    dry_run: bool = flag("d", "Only tell what would be removed")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--dry-run"] if options.dry_run else []),
    ]
    become("retention", *flags, *operands)
