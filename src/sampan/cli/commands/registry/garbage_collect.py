"""Remove what no manifest of a registry needs."""

from __future__ import annotations

from sampan.cli.flags import flag
from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """The registry must not be running. One that runs collects by itself, while clients push,
if its configuration enables `storage.maintenance.garbagecollection`."""


class Options:
    dry_run: bool = flag("d", "Only tell what would be removed")
    delete_untagged: bool = flag("m", "Remove manifests too that no tag leads to")
    quiet: bool = flag("q", "Do not tell what is removed")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    flags = [
        *(["--dry-run"] if options.dry_run else []),
        *(["--delete-untagged"] if options.delete_untagged else []),
        *(["--quiet"] if options.quiet else []),
    ]
    become("garbage-collect", *flags, *operands)
