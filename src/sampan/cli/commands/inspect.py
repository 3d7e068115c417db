"""Show everything about containers, images, networks or volumes."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.inspection import inspect
from sampan.cli.display.table import INSPECT_FORMAT_HELP
from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument, NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "NAME|ID [NAME|ID...]"
OPERANDS = (1, None)
TYPES = ("container", "image", "network", "volume")
# Docker has these too; this daemon has no such objects.
FOREIGN = ("config", "node", "plugin", "secret", "service", "task")


class Options:
    changed: set[str]
    format: str = flag("f", INSPECT_FORMAT_HELP, default="")
    size: bool = flag("s", "Show sizes, if it is a container")
    type: str = flag("", "Look only for objects of this type", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    known = '", "'.join(sorted(TYPES + FOREIGN))
    if "type" in options.changed and not options.type:
        raise Exit(1, f'type is empty: must be one of "{known}"')
    if options.type and options.type not in TYPES + FOREIGN:
        raise Exit(1, f'unknown type: "{options.type}": must be one of "{known}"')

    def find(name: str) -> dict[str, Any]:
        for kind in TYPES:
            if options.type and kind != options.type:
                continue
            try:
                document = _document(cli, kind, name, options.size)
            except (NotFound, Unsupported, InvalidArgument) as error:
                if options.type or not _skippable(error):
                    raise
                continue
            if options.size and kind != "container":
                cli.err.line("WARNING: --size ignored for", kind)
            return document
        raise NotFound(f"Error: No such object: {name}")

    return inspect(cli, operands, options.format, find)


def _skippable(error: Exception) -> bool:
    return not isinstance(error, InvalidArgument) or "invalid reference format" in str(error)


def _document(cli: Invocation, kind: str, name: str, size: bool) -> dict[str, Any]:
    client = cli.client
    if kind == "container":
        return client.containers.inspect(name, size)
    if kind == "image":
        return client.images.inspect(name)
    if kind == "network":
        return client.networks.inspect(name)
    return client.volumes.inspect(name)
