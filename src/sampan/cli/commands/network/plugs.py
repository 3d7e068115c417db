"""List what is plugged into a container."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.table import FORMAT_HELP, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER"
OPERANDS = (1, 1)
TABLE = r"table {{.Interface}}\t{{.Addresses}}\t{{.Into}}"
HEADINGS = {"Interface": "INTERFACE", "Addresses": "ADDRESSES", "Into": "INTO"}


class Options:
    format: str = flag("", FORMAT_HELP, default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    found = cli.client.networks.plugs(operands[0])
    layout = options.format if options.format not in ("", "table") else TABLE
    columns = {
        "Interface": lambda item: item["Interface"],
        "Addresses": lambda item: ",".join(item["Addresses"]),
        "Into": _into,
    }
    cli.out.write(render(layout, found, columns, HEADINGS))
    return 0


def _into(item: dict[str, Any]) -> str:
    if item["Bridge"]:
        return f"bridge {item['Bridge']}" + (f" with {item['Port']}" if item["Port"] else "")
    if item["Parent"]:
        return f"macvlan on {item['Parent']}"
    peer = item["Peer"]
    return f"container {peer['Container'][:12]} {peer['Interface']}"
