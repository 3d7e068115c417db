"""Send an image to a registry."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.progress import show
from sampan.cli.images.transfer import TransferOptions, reference_of, with_login

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "NAME[:TAG]"
ALIASES = "image push, push"
OPERANDS = (1, 1)
ONE_PLATFORM = """\
Using --platform pushes only the specified platform manifest of a multi-platform image index.
Other components, like attestations, will not be included.
To push the complete multi-platform image, remove the --platform flag.
"""
MISSING = """\
The image is an index of several platforms, and some of what it names is neither here nor in
the registry. Fetch what is missing first, or push one platform with the --platform flag."""


class Options(TransferOptions):
    all_tags: bool = flag("a", "Send all tags of the repository")
    platform: str = flag(
        "",
        "Send only the manifest of this platform (os[/arch[/variant]]), as an image of its own:\n"
        "the index with the other platforms and the attestations is not sent",
        default="",
    )


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if options.platform:
        _announce_platform(cli, options.platform)
    reference = reference_of(cli, options, operands[0], options.all_tags)
    messages = with_login(
        cli,
        reference.domain,
        "push",
        lambda login: cli.client.images.push(
            reference.name, reference.tag, options.platform, login
        ),
    )
    notes: list[Any] = []
    try:
        show(messages, None if options.quiet else cli.out, notes)
        if options.quiet:
            cli.out.line(reference)
    finally:
        _print_notes(cli, notes)
    return 0


def _announce_platform(cli: Invocation, platform: str) -> None:
    from sampan.cli.arguments.platform_flag import check
    from sampan.cli.display.notes import note

    check([platform], f"Invalid platform {platform}")
    note(cli.out, ONE_PLATFORM)


def _print_notes(cli: Invocation, auxiliary: list[Any]) -> None:
    for item in auxiliary:
        if not isinstance(item, dict):
            continue
        if item.get("manifestPushedInsteadOfIndex"):
            from sampan.cli.display.notes import pushed_instead

            digests = [str((item.get(name) or {}).get("digest", "")) for name in _DESCRIPTORS]
            pushed_instead(cli.out, *digests)
        if item.get("contentMissing"):
            from sampan.cli.display.notes import note

            note(cli.out, MISSING)


_DESCRIPTORS = ("originalIndex", "selectedManifest")
