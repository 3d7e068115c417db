"""Make an image of a container's changes."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [REPOSITORY[:TAG]]"
ALIASES = "container commit, commit"
OPERANDS = (1, 2)
INTERSPERSED = False


class Options:
    changed: set[str]
    author: str = flag("a", 'Author (e.g., "Jane Doe <jane@example.com>")', default="")
    change: list[str] = flag("c", "Dockerfile instruction for the image", kind="list")
    message: str = flag("m", "Message of the commit", default="")
    no_pause: bool = flag("", "Do not pause the container meanwhile")
    pause: bool = hidden(
        "",
        "and enabled by default. Use --no-pause to disable pausing during commit.",
        kind="bool",
        short="p",
        default=True,
    )


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if {"pause", "no-pause"} <= options.changed:
        raise Exit(1, "conflicting options: --no-pause and --pause cannot be used together")
    repository, tag = "", ""
    if len(operands) == 2:
        from sampan.spec.reference import Reference

        reference = Reference.parse(operands[1])
        if reference.digest:
            raise Exit(1, "refusing to create a tag with a digest reference")
        reference = reference.with_default_tag()
        repository, tag = reference.familiar_name, reference.tag
    image = cli.client.containers.commit(
        operands[0],
        repository,
        tag,
        options.message,
        options.author,
        options.pause and not options.no_pause,
        options.change,
    )
    cli.out.line(image)
    return 0
