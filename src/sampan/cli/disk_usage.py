"""The lists of `system df`: what images, containers, volumes and build cache take on the disk.

Source: docker/cli cli/command/formatter/disk_usage.go, buildcache.go, volume.go.
"""

from __future__ import annotations

from sampan.cli.containers import columns as container_columns
from sampan.cli.containers.columns import labels, short_id
from sampan.cli.display.units import human_duration, human_size, local_time, parse_time
from sampan.cli.images import columns as image_columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Item = dict[str, Any]
    Column = Callable[[Item], Any]

SUMMARY_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
VOLUME_HEADINGS = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE", "Driver": "DRIVER"}
CACHE_HEADINGS = {
    "ID": "CACHE ID",
    "Parent": "PARENT",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "InUse": "IN USE",
    "Shared": "SHARED",
    "Description": "DESCRIPTION",
}
STORAGE_HEADINGS = {
    "Kind": "KIND",
    "Count": "COUNT",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
ACTIVE_STATES = ("running", "paused", "restarting")


class Part:
    """The items of one kind, and its totals where the daemon gives them (API 1.52)."""

    def __init__(self, usage: Item, name: str, field: str) -> None:
        self.totals: Item = usage.get(f"{name}Usage") or usage.get(f"{name}DiskUsage") or {}
        self.items: list[Item] = usage.get(field) or self.totals.get("Items") or []


def parts(usage: Item) -> tuple[Part, Part, Part, Part]:
    """Return images, containers, volumes and build cache."""
    images, containers = Part(usage, "Image", "Images"), Part(usage, "Container", "Containers")
    volumes, cache = Part(usage, "Volume", "Volumes"), Part(usage, "BuildCache", "BuildCache")
    return images, containers, volumes, cache


def summary(usage: Item) -> list[Item]:
    """Return one row for each kind."""
    images, containers, volumes, cache = parts(usage)
    return [
        _row("Images", images, sum(item.get("Containers", 0) > 0 for item in images.items))
        | _image_sizes(images, usage.get("LayersSize") or 0),
        _row("Containers", containers, sum(map(_is_active, containers.items)))
        | _sizes(
            containers,
            sum(map(_rw, containers.items)),
            sum(_rw(item) for item in containers.items if not _is_active(item)),
        ),
        _row("Local Volumes", volumes, sum(_data(item)["RefCount"] > 0 for item in volumes.items))
        | _volume_sizes(volumes),
        _row("Build Cache", cache, sum(bool(item.get("InUse")) for item in cache.items))
        | _cache_sizes(cache),
    ]


def _row(kind: str, part: Part, active: int) -> Item:
    totals = part.totals
    return {
        "Type": kind,
        "Total": totals.get("TotalCount", 0) if totals else len(part.items),
        "Active": totals.get("ActiveCount", 0) if totals else active,
    }


def _sizes(part: Part, size: int, reclaimable: int, percent: bool = True) -> Item:
    if part.totals:
        size, reclaimable = part.totals.get("TotalSize", 0), part.totals.get("Reclaimable", 0)
    return {"Size": size, "Reclaimable": reclaimable, "Percent": percent}


def _image_sizes(part: Part, layers: int) -> Item:
    used = sum(
        item["Size"] - item.get("SharedSize", -1)
        for item in part.items
        if item.get("Containers") and -1 not in (item["Size"], item.get("SharedSize", -1))
    )
    return _sizes(part, layers, layers - used)


def _volume_sizes(part: Part) -> Item:
    known = [data for data in map(_data, part.items) if data["Size"] != -1]
    unused = sum(data["Size"] for data in known if not data["RefCount"])
    return _sizes(part, sum(data["Size"] for data in known), unused)


def _cache_sizes(part: Part) -> Item:
    own = [item for item in part.items if not item.get("Shared")]
    size = sum(item.get("Size", 0) for item in own)
    used = sum(item.get("Size", 0) for item in own if item.get("InUse"))
    return _sizes(part, size, size - used, percent=False)


def _is_active(item: Item) -> bool:
    return item.get("State") in ACTIVE_STATES


def _rw(item: Item) -> int:
    return int(item.get("SizeRw") or 0)


def _data(item: Item) -> Item:
    return item.get("UsageData") or {"Size": -1, "RefCount": 0}


def _reclaimable(row: Item) -> str:
    text = human_size(row["Reclaimable"])
    if not row["Percent"] or row["Size"] <= 0:
        return text
    return f"{text} ({int(row['Reclaimable'] * 100 / row['Size'])}%)"


SUMMARY: dict[str, Column] = {
    "Type": lambda row: row["Type"],
    "TotalCount": lambda row: str(row["Total"]),
    "Active": lambda row: str(row["Active"]),
    "Size": lambda row: human_size(row["Size"]),
    "Reclaimable": _reclaimable,
}


def image_rows(items: list[Item]) -> list[Item]:
    """Return each image once, with its first name only."""
    rows = []
    for item in items:
        names = [] if image_columns.is_dangling(item) else item.get("RepoTags") or []
        named = {**item, "RepoTags": names[:1], "RepoDigests": []}
        rows.append({**next(image_columns.rows([named], digests=False)), "digest": ""})
    return rows


def images(truncated: bool) -> dict[str, Column]:
    return {
        **image_columns.columns(truncated),
        "SharedSize": lambda item: _known(item.get("SharedSize", -1), 0),
        "UniqueSize": lambda item: _known(item["Size"], item.get("SharedSize", -1)),
    }


def _known(size: int, shared: int) -> str:
    return "N/A" if -1 in (size, shared) else human_size(size - shared)


def containers(truncated: bool) -> dict[str, Column]:
    columns = container_columns.columns(truncated)
    # The size of the image is told with the image.
    return {**columns, "Size": lambda item: container_columns.size({**item, "SizeRootFs": 0})}


VOLUMES: dict[str, Column] = {
    "Availability": lambda item: "N/A",
    "Driver": lambda item: item.get("Driver", ""),
    "Group": lambda item: "N/A",
    "Labels": labels,
    "Links": lambda item: str(item["UsageData"]["RefCount"]) if item.get("UsageData") else "N/A",
    "Mountpoint": lambda item: item.get("Mountpoint", ""),
    "Name": lambda item: item["Name"],
    "Scope": lambda item: item.get("Scope", ""),
    "Size": lambda item: human_size(item["UsageData"]["Size"]) if item.get("UsageData") else "N/A",
    "Status": lambda item: "N/A",
}


def cache_rows(items: list[Item]) -> list[Item]:
    """Return the build cache, what was used last at the end."""
    return sorted(items, key=lambda item: (item.get("LastUsedAt") or "", item["ID"]))


def cache(truncated: bool) -> dict[str, Column]:
    def shortened(text: str) -> str:
        return short_id(text) if truncated else text

    return {
        "ID": lambda item: shortened(item["ID"]) + ("*" if item.get("InUse") else ""),
        "Parent": lambda item: shortened(", ".join(item.get("Parents") or [])),
        "CacheType": lambda item: item.get("Type", ""),
        "Description": lambda item: item.get("Description", ""),
        "Size": lambda item: human_size(item.get("Size", 0), 3),
        "CreatedAt": lambda item: _moment(item.get("CreatedAt")),
        "CreatedSince": lambda item: _since(item.get("CreatedAt")),
        "LastUsedAt": lambda item: _moment(item.get("LastUsedAt")),
        "LastUsedSince": lambda item: _since(item.get("LastUsedAt")),
        "UsageCount": lambda item: str(item.get("UsageCount", 0)),
        "InUse": lambda item: str(bool(item.get("InUse"))).lower(),
        "Shared": lambda item: str(bool(item.get("Shared"))).lower(),
    }


def _since(text: str | None) -> str:
    import time

    seconds = parse_time(text) if text else None
    return human_duration(time.time() - seconds) + " ago" if seconds is not None else ""


def _moment(text: str | None) -> str:
    seconds = parse_time(text) if text else None
    return local_time(seconds) if seconds is not None else ""


# Our own: what every byte below the data root belongs to, whatever the lists above count.
STORAGE: dict[str, Column] = {
    "Kind": lambda item: str(item.get("Kind", "")),
    "Count": lambda item: str(item.get("Count", 0)),
    "Size": lambda item: human_size(item.get("Size", 0)),
    "Reclaimable": lambda item: human_size(item.get("Reclaimable", 0)),
}
