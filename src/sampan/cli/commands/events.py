"""Show what happens in the daemon, as it happens."""

from __future__ import annotations

import time

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.times import timestamp
from sampan.cli.display.table import INSPECT_FORMAT_HELP
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "system events, events"
OPERANDS = (0, 0)


class Options:
    filter: dict[str, list[str]] = flag("f", "Show only what meets a condition", kind="filter")
    format: str = flag("", INSPECT_FORMAT_HELP, default="")
    since: str = flag("", "Begin with this time", default="")
    until: str = flag("", "End with this time", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    template = None
    if options.format:
        from sampan.cli.template.engine import Template

        try:
            text = "{{json .}}" if options.format == "json" else options.format
            template = Template(text, lenient=True)
        except ValueError as error:
            raise Exit(64, f"Error parsing format: {error}") from None
    since = timestamp(options.since, "since")
    until = timestamp(options.until, "until")
    for event in cli.client.system.events(since, until, options.filter):
        try:
            cli.out.line(template.apply(event) if template else _sentence(event))
        except ValueError as error:
            raise Exit(1, str(error)) from None
        cli.out.flush()
    return 0


def _sentence(event: dict[str, Any]) -> str:
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    text = f"{_moment(event)}{event['Type']} {event['Action']} {actor.get('ID', '')}"
    if attributes:
        text += f" ({', '.join(f'{name}={attributes[name]}' for name in sorted(attributes))})"
    return text


def _moment(event: dict[str, Any]) -> str:
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * 10**9
    if not nanoseconds:
        return ""
    seconds, fraction = divmod(nanoseconds, 10**9)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    shown = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}{shown} "
