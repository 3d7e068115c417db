"""Show what takes room on the disk."""

from __future__ import annotations

from sampan.cli import container_columns, image_columns
from sampan.cli.flags import flag
from sampan.cli.table import FORMAT_HELP, Row, parsed, render, template_text
from sampan.cli.units import human_duration, human_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

    Item = dict[str, Any]

USAGE = ""
OPERANDS = (0, 0)
SUMMARY = r"table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
SUMMARY_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
IMAGES = (
    r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    r"\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
)
CONTAINERS = (
    r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}"
    r"\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
)
VOLUMES = r"table {{.Name}}\t{{.Links}}\t{{.Size}}"
CACHE = (
    r"table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}"
    r"\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}"
)
VOLUME_HEADINGS = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE", "Driver": "DRIVER"}
CACHE_HEADINGS = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "Shared": "SHARED",
}
UNUSED_STATES = ("created", "exited", "dead")


class Options:
    format: str = flag("", FORMAT_HELP, default="")
    verbose: bool = flag("v", "Show every image, container and volume")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    usage = cli.client.system.df(options.verbose)
    if not options.verbose:
        layout = options.format if options.format not in ("", "table") else SUMMARY
        cli.out.write(render(layout, _summary(usage), _SUMMARY_COLUMNS, SUMMARY_HEADINGS))
    elif options.format in ("", "table"):
        _print_verbose(cli, usage)
    else:
        tables = _tables(usage, truncated=False)
        rows = {
            name: [Row(columns, item, {}) for item in items]
            for name, (_, items, columns, _) in tables.items()
        }
        cli.out.write(parsed(template_text(options.format)).apply(rows))
    return 0


def _part(usage: Item, name: str, field: str) -> tuple[list[Item], Item]:
    """Return the items of a kind, and its totals where the daemon gives them (API 1.52)."""
    totals = usage.get(f"{name}Usage") or usage.get(f"{name}DiskUsage") or {}
    return usage.get(field) or totals.get("Items") or [], totals


def _summary(usage: Item) -> list[Item]:
    images, image_totals = _part(usage, "Image", "Images")
    containers, container_totals = _part(usage, "Container", "Containers")
    volumes, volume_totals = _part(usage, "Volume", "Volumes")
    cache, cache_totals = _part(usage, "BuildCache", "BuildCache")
    layers = usage.get("LayersSize") or 0
    used = sum(
        image["Size"] - max(image.get("SharedSize", 0), 0)
        for image in images
        if image.get("Containers", 0) > 0
    )
    idle = [item for item in containers if item.get("State") in UNUSED_STATES]
    volume_data = [item.get("UsageData") or {"Size": 0, "RefCount": 0} for item in volumes]
    unused = [data for data in volume_data if not data["RefCount"]]
    rows = [
        ("Images", image_totals, len(images), sum(i.get("Containers", 0) > 0 for i in images))
        + (layers, layers - used, True),
        ("Containers", container_totals, len(containers), len(containers) - len(idle))
        + (sum(_rw(item) for item in containers), sum(map(_rw, idle)), True),
        ("Local Volumes", volume_totals, len(volumes), len(volumes) - len(unused))
        + (sum(d["Size"] for d in volume_data), sum(d["Size"] for d in unused), True),
        ("Build Cache", cache_totals, len(cache), sum(bool(c.get("InUse")) for c in cache))
        + (
            sum(c.get("Size", 0) for c in cache if not c.get("Shared")),
            sum(c.get("Size", 0) for c in cache if not c.get("InUse") and not c.get("Shared")),
            False,
        ),
    ]
    names = ("Type", "Totals", "Total", "Active", "Size", "Reclaimable", "Percent")
    return [_with_totals(dict(zip(names, row, strict=True))) for row in rows]


def _rw(item: Item) -> int:
    return int(item.get("SizeRw") or 0)


def _with_totals(row: Item) -> Item:
    totals = row["Totals"]
    if totals:
        row |= {
            "Total": totals.get("TotalCount", 0),
            "Active": totals.get("ActiveCount", 0),
            "Size": totals.get("TotalSize", 0),
            "Reclaimable": totals.get("Reclaimable", 0),
        }
    return row


def _reclaimable(row: Item) -> str:
    text = human_size(row["Reclaimable"])
    if not row["Percent"] or row["Size"] <= 0:
        return text
    return f"{text} ({row['Reclaimable'] * 100 // row['Size']}%)"


_SUMMARY_COLUMNS: dict[str, Callable[[Item], Any]] = {
    "Type": lambda row: row["Type"],
    "TotalCount": lambda row: str(row["Total"]),
    "Active": lambda row: str(row["Active"]),
    "Size": lambda row: human_size(row["Size"]),
    "Reclaimable": _reclaimable,
}
_VOLUME_COLUMNS: dict[str, Callable[[Item], Any]] = {
    "Name": lambda item: item["Name"],
    "Driver": lambda item: item["Driver"],
    "Links": lambda item: str((item.get("UsageData") or {}).get("RefCount", "N/A")),
    "Size": lambda item: human_size(item["UsageData"]["Size"]) if item.get("UsageData") else "N/A",
}


def _since(text: str | None) -> str:
    import time

    seconds = parse_time(text) if text else None
    return human_duration(time.time() - seconds) + " ago" if seconds else ""


_CACHE_COLUMNS: dict[str, Callable[[Item], Any]] = {
    "ID": lambda item: item["ID"][:12],
    "CacheType": lambda item: item.get("Type", ""),
    "Size": lambda item: human_size(item.get("Size", 0), 3),
    "CreatedSince": lambda item: _since(item.get("CreatedAt")),
    "LastUsedSince": lambda item: _since(item.get("LastUsedAt")),
    "UsageCount": lambda item: str(item.get("UsageCount", 0)),
    "Shared": lambda item: str(bool(item.get("Shared"))).lower(),
}


def _tables(usage: Item, truncated: bool) -> dict[str, Any]:
    images = [
        next(image_columns.rows([image], digests=False))
        for image in _part(usage, "Image", "Images")[0]
    ]
    containers = [{**item, "SizeRootFs": 0} for item in _part(usage, "Container", "Containers")[0]]
    volumes = _part(usage, "Volume", "Volumes")[0]
    cache = _part(usage, "BuildCache", "BuildCache")[0]
    return {
        "Images": (
            IMAGES,
            images,
            {**image_columns.columns(truncated), "SharedSize": _shared, "UniqueSize": _unique},
            image_columns.HEADINGS,
        ),
        "Containers": (
            CONTAINERS,
            containers,
            container_columns.columns(truncated),
            container_columns.HEADINGS,
        ),
        "Volumes": (VOLUMES, volumes, _VOLUME_COLUMNS, VOLUME_HEADINGS),
        "BuildCache": (CACHE, cache, _CACHE_COLUMNS, CACHE_HEADINGS),
    }


def _shared(item: Item) -> str:
    shared = item.get("SharedSize", -1)
    return human_size(shared) if shared >= 0 else "N/A"


def _unique(item: Item) -> str:
    shared = item.get("SharedSize", -1)
    return human_size(item["Size"] - shared) if shared >= 0 else "N/A"


def _print_verbose(cli: Invocation, usage: Item) -> None:
    cache = sum(item.get("Size", 0) for item in usage.get("BuildCache") or [])
    titles = {
        "Images": "Images space usage:\n\n",
        "Containers": "\nContainers space usage:\n\n",
        "Volumes": "\nLocal Volumes space usage:\n\n",
        "BuildCache": f"\nBuild cache usage: {human_size(cache)}\n\n",
    }
    for name, table in _tables(usage, truncated=True).items():
        cli.out.write(titles[name])
        cli.out.write(render(*table))
