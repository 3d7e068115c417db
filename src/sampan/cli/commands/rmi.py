"""Remove one or more images."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.platform_flag import check
from sampan.cli.invocation import Exit
from sampan.errors import NotFound, SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "IMAGE [IMAGE...]"
ALIASES = "image rm, image remove, rmi"
OPERANDS = (1, None)


class Options:
    force: bool = flag("f", "Remove it even if it has several names")
    no_prune: bool = flag("", "Keep parents that have no name")
    platform: list[str] = flag("", "Only these platforms (os[/arch[/variant]])", kind="slice")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    check(options.platform, "")
    errors: list[str] = []
    fatal = False
    for image in operands:
        try:
            done = cli.client.images.remove(
                image, options.force, not options.no_prune, options.platform
            )
        except SampanError as error:
            errors.append(str(error))
            fatal = fatal or not isinstance(error, NotFound)
            continue
        for item in done:
            if item.get("Deleted"):
                cli.out.line("Deleted:", item["Deleted"])
            else:
                cli.out.line("Untagged:", item["Untagged"])
    if errors and (fatal or not options.force):
        raise Exit(1, "\n".join(errors))
    if errors:
        cli.err.line("\n".join(errors))
    return 0
