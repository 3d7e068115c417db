"""Show what takes room on the disk."""

from __future__ import annotations

from sampan.cli import disk_usage
from sampan.cli.arguments.flags import flag
from sampan.cli.containers import columns as container_columns
from sampan.cli.display.table import FORMAT_HELP, Row, parsed, render, template_text
from sampan.cli.display.units import human_size
from sampan.cli.images import columns as image_columns
from sampan.cli.invocation import Exit
from sampan.cli.template.lexer import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

    Item = dict[str, Any]

USAGE = ""
OPERANDS = (0, 0)
LONG = """With -v there is a list of what every byte below the daemon's folder belongs to, besides
Docker's own lists."""
SUMMARY = r"table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
RAW_SUMMARY = """type: {{.Type}}
total: {{.TotalCount}}
active: {{.Active}}
size: {{.Size}}
reclaimable: {{.Reclaimable}}
"""
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
STORAGE = r"table {{.Kind}}\t{{.Count}}\t{{.Size}}\t{{.Reclaimable}}"
RAW = """{{range .Images}}type: Image
repository: {{.Repository}}
tag: {{.Tag}}
digest: {{.Digest}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}

{{end -}}
{{range .Containers}}type: Container
container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
size: {{.Size}}

{{end -}}
{{range .Volumes}}type: Volume
name: {{.Name}}
driver: {{.Driver}}

{{end -}}
{{range .BuildCache}}type: Build Cache
build_cache_id: {{.ID}}
parent_id: {{.Parent}}
build_cache_type: {{.CacheType}}
description: {{.Description}}
created_at: {{.CreatedAt}}
created_since: {{.CreatedSince}}
last_used_at: {{.LastUsedAt}}
last_used_since: {{.LastUsedSince}}
usage_count: {{.UsageCount}}
in_use: {{.InUse}}
shared: {{.Shared}}

{{end -}}
"""


class Options:
    format: str = flag("", FORMAT_HELP, default="")
    verbose: bool = flag("v", "Show every image, container and volume")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    usage = cli.client.system.df(options.verbose)
    if options.verbose:
        _verbose(cli, usage, options.format)
        return 0
    layouts = {"": SUMMARY, "table": SUMMARY, "raw": RAW_SUMMARY}
    layout = layouts.get(options.format, options.format)
    rows = disk_usage.summary(usage)
    cli.out.write(render(layout, rows, disk_usage.SUMMARY, disk_usage.SUMMARY_HEADINGS))
    return 0


def _verbose(cli: Invocation, usage: Item, layout: str) -> None:
    if layout in ("", "table"):
        _print_tables(cli, usage)
        return
    rows = {
        name: [Row(columns, item, {}) for item in items]
        for name, (_, items, columns, _) in _tables(usage, truncated=False).items()
    }
    template = RAW.removesuffix("\n") if layout == "raw" else template_text(layout)
    try:
        cli.out.write(parsed(template).apply(rows))
    except TemplateError as error:
        raise Exit(1, str(error)) from None


def _tables(usage: Item, truncated: bool) -> dict[str, Any]:
    images, containers, volumes, cache = disk_usage.parts(usage)
    return {
        "Images": (
            IMAGES,
            disk_usage.image_rows(images.items),
            disk_usage.images(truncated),
            image_columns.HEADINGS,
        ),
        "Containers": (
            CONTAINERS,
            containers.items,
            disk_usage.containers(truncated),
            container_columns.HEADINGS,
        ),
        "Volumes": (
            VOLUMES,
            volumes.items,
            disk_usage.VOLUMES,
            disk_usage.VOLUME_HEADINGS,
        ),
        "BuildCache": (
            CACHE,
            disk_usage.cache_rows(cache.items),
            disk_usage.cache(truncated),
            disk_usage.CACHE_HEADINGS,
        ),
    }


def _print_tables(cli: Invocation, usage: Item) -> None:
    cache = disk_usage.summary(usage)[-1]["Size"]
    titles = {
        "Images": "Images space usage:\n\n",
        "Containers": "\nContainers space usage:\n\n",
        "Volumes": "\nLocal Volumes space usage:\n\n",
        "BuildCache": f"\nBuild cache usage: {human_size(cache)}\n\n",
    }
    for name, table in _tables(usage, truncated=True).items():
        cli.out.write(titles[name])
        cli.out.write(render(*table))
    storage = usage.get("Storage")
    if storage:
        total = sum(item.get("Size", 0) for item in storage)
        cli.out.write(f"\nStorage usage: {human_size(total)}\n\n")
        columns, headings = disk_usage.STORAGE, disk_usage.STORAGE_HEADINGS
        cli.out.write(render(STORAGE, storage, columns, headings))
