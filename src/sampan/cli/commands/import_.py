"""Make an image of a root file system's tar archive."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag
from sampan.cli.display.progress import show
from sampan.cli.uploads import file_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.cli.invocation import Invocation

USAGE = "file|URL|- [REPOSITORY[:TAG]]"
ALIASES = "image import, import"
OPERANDS = (1, None)


class Options:
    change: list[str] = flag("c", "Dockerfile instruction for the image", kind="list")
    message: str = flag("m", "Message of the commit", default="")
    platform: str = flag(
        "",
        "Platform of the image, os[/arch[/variant]]",
        default=os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
    )


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    source = operands[0]
    repository, tag = "", ""
    if len(operands) > 1:
        from sampan.spec.reference import Reference

        Reference.parse(operands[1])
        repository = operands[1]

    def send(name: str, archive: Iterable[bytes] | None) -> None:
        show(
            cli.client.images.import_(
                name, archive, repository, tag, options.message, options.change, options.platform
            ),
            cli.out,
        )

    if source.startswith(("http://", "https://")):
        send(source, None)
    else:
        with file_pieces(source) as archive:
            send("-", archive)
    return 0
