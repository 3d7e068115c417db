"""Write one or more images as a tar archive."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.platform_flag import check
from sampan.cli.saving import save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "IMAGE [IMAGE...]"
ALIASES = "image save, save"
OPERANDS = (1, None)


class Options:
    output: str = flag("o", "Write to a file instead of STDOUT", default="")
    platform: list[str] = flag("", "Only these platforms (os[/arch[/variant]])", kind="slice")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    check(options.platform)
    return save(
        cli,
        options.output,
        "failed to save image",
        lambda: cli.client.images.save(operands, options.platform),
    )
