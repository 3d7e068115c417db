"""List networks."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.columns import labels, short_id
from sampan.cli.display.table import FORMAT_HELP, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "network ls, network list"
OPERANDS = (0, 0)
TABLE = r"table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
RAW = r"network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


class Options:
    filter: dict[str, list[str]] = flag(
        "f", 'Show only what meets a condition (e.g. "driver=bridge")', kind="filter"
    )
    format: str = flag("", FORMAT_HELP, default="")
    no_trunc: bool = flag("", "Show everything at full length")
    quiet: bool = flag("q", "Show ids only")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    from sampan.cli.display.natural import natural_order

    found = sorted(
        cli.client.networks.list(options.filter), key=lambda item: natural_order(item["Name"])
    )
    layout = options.format or (cli.setting("networksFormat") if not options.quiet else "")
    if layout in ("", "table"):
        layout = "{{.ID}}" if options.quiet else TABLE
    elif layout == "raw":
        layout = "network_id: {{.ID}}" if options.quiet else RAW
    methods = {"Label": lambda item, name: (item.get("Labels") or {}).get(name, "")}
    cli.out.write(render(layout, found, _columns(not options.no_trunc), HEADINGS, methods))
    return 0


def _columns(truncated: bool) -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {
        "ID": lambda item: short_id(item["Id"]) if truncated else item["Id"],
        "Name": lambda item: item["Name"],
        "Driver": lambda item: item["Driver"],
        "Scope": lambda item: item["Scope"],
        "IPv4": lambda item: str(item.get("EnableIPv4", False)).lower(),
        "IPv6": lambda item: str(item.get("EnableIPv6", False)).lower(),
        "Internal": lambda item: str(item.get("Internal", False)).lower(),
        "Labels": labels,
        "CreatedAt": lambda item: _time(item["Created"]),
    }


def _time(text: str) -> str:
    """Format an RFC 3339 time as Go prints it."""
    if text.endswith("Z"):
        return text[:-1].replace("T", " ") + " +0000 UTC"
    zone = text[-6:].replace(":", "")
    return f"{text[:-6].replace('T', ' ')} {zone} {zone}"
