"""Load images from a tar archive or STDIN."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.platform_flag import check
from sampan.cli.display.progress import show
from sampan.cli.invocation import Exit
from sampan.cli.uploads import file_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "image load, load"
OPERANDS = (0, 0)


class Options:
    input: str = flag("i", "Read from a file instead of STDIN", default="")
    platform: list[str] = flag("", "Only these platforms (os[/arch[/variant]])", kind="slice")
    quiet: bool = flag("q", "Do not show how it goes on")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    from sampan.cli.display.terminal import size_of

    if not options.input and size_of(0) != (0, 0):
        raise Exit(1, "requested load from stdin, but stdin is empty")
    check(options.platform)
    quiet = options.quiet or not cli.out.is_terminal()
    with file_pieces(options.input or "-") as archive:
        show(cli.client.images.load(archive, quiet, options.platform), cli.out)
    return 0
