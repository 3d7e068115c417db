"""Values of `--platform` that the command line has to understand before it asks the daemon."""

from __future__ import annotations

from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "invalid platform: "


def check(platforms: Iterable[str], prefix: str = PREFIX) -> None:
    """Raise Exit with docker's words unless each is empty or a platform: os[/arch[/variant]]."""
    for text in platforms:
        if not text:
            continue
        from sampan.spec.platform import Platform

        try:
            Platform.parse(text)
        except InvalidArgument as error:
            raise Exit(1, f"{prefix}{error}") from None
