"""Give an image another name."""

from __future__ import annotations

from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument
from sampan.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"
ALIASES = "image tag, tag"
OPERANDS = (2, 2)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    source, target = operands
    try:
        reference = Reference.parse(target)
    except InvalidArgument as error:
        raise Exit(
            1,
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error}',
        ) from None
    if reference.digest:
        raise Exit(1, "refusing to create a tag with a digest reference")
    reference = reference.with_default_tag()
    cli.client.images.tag(source, reference.name, reference.tag)
    return 0
