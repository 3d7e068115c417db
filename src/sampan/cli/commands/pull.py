"""Fetch an image from a registry."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag
from sampan.cli.display.progress import show
from sampan.cli.images.transfer import TransferOptions, reference_of, with_login

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "NAME[:TAG|@DIGEST]"
ALIASES = "image pull, pull"
OPERANDS = (1, 1)


class Options(TransferOptions):
    all_tags: bool = flag("a", "Fetch all tags of the repository")
    platform: str = flag(
        "",
        "Fetch the image for this platform (os[/arch[/variant]])",
        default=os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
    )


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    reference = reference_of(cli, options, operands[0], options.all_tags)
    tag = str(reference.digest) if reference.digest else reference.tag
    messages = with_login(
        cli,
        reference.domain,
        "pull",
        lambda login: cli.client.images.pull(reference.name, tag, options.platform, login),
    )
    show(messages, None if options.quiet else cli.out)
    cli.out.line(reference)
    return 0
