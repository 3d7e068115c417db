"""List volumes."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.columns import labels
from sampan.cli.display.table import FORMAT_HELP, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "volume ls, volume list"
OPERANDS = (0, 0)
TABLE = r"table {{.Driver}}\t{{.Name}}"
RAW = r"name: {{.Name}}\ndriver: {{.Driver}}\n"
CLUSTER_TABLE = r"table {{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}"
HEADINGS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Group": "GROUP",
    "Availability": "AVAILABILITY",
    "Status": "STATUS",
}


class Options:
    cluster: bool = flag("", "Show only cluster volumes, with columns of their own")
    filter: dict[str, list[str]] = flag(
        "f", 'Show only what meets a condition (e.g. "dangling=true")', kind="filter"
    )
    format: str = flag("", FORMAT_HELP, default="")
    quiet: bool = flag("q", "Show names only")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    from sampan.cli.display.natural import natural_order

    answer = cli.client.volumes.list(options.filter)
    found = sorted(answer.get("Volumes") or [], key=lambda item: natural_order(item["Name"]))
    if options.cluster:
        found = [item for item in found if item.get("ClusterVolume")]
    layout = options.format or (cli.setting("volumesFormat") if not options.quiet else "")
    if layout in ("", "table"):
        table = CLUSTER_TABLE if options.cluster else TABLE
        layout = "{{.Name}}" if options.quiet else table
    elif layout == "raw":
        layout = "name: {{.Name}}" if options.quiet else RAW
    methods = {"Label": lambda item, name: (item.get("Labels") or {}).get(name, "")}
    cli.out.write(render(layout, found, _columns(), HEADINGS, methods))
    for warning in answer.get("Warnings") or []:
        cli.err.line(f"WARNING: {warning}")
    return 0


def _columns() -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {
        "Name": lambda item: item["Name"],
        "Driver": lambda item: item["Driver"],
        "Scope": lambda item: item["Scope"],
        "Mountpoint": lambda item: item["Mountpoint"],
        "Labels": labels,
        "Links": lambda item: "N/A",
        "Size": lambda item: "N/A",
        "Group": lambda item: "N/A",
        "Availability": lambda item: "N/A",
        "Status": lambda item: "N/A",
    }
