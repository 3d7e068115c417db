"""Remove what no manifest of a registry needs."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """A registry that runs is asked to do it. What was pushed or asked for within the delay
stays then, by default that of `storage.maintenance.garbagecollection` (24h)."""


class Options:
    delay: str = flag("", "How old something must be to be removed, such as 2h", default="")
    dry_run: bool = flag("d", "Only tell what would be removed")
    delete_untagged: bool = flag("m", "Remove manifests too that no tag leads to")
    quiet: bool = flag("q", "Do not tell what is removed")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--dry-run"] if options.dry_run else []),
        *(["--delete-untagged"] if options.delete_untagged else []),
        *([f"--delay={options.delay}"] if options.delay else []),
        *(["--quiet"] if options.quiet else []),
    ]
    become("garbage-collect", *flags, *operands)
