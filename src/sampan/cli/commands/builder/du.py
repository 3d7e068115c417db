"""Show what the build cache takes on the disk."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.units import human_duration, human_size, parse_time
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

    Item = dict[str, Any]

USAGE = ""
ALIASES = "builder du, buildx du"
OPERANDS = (0, 0)
_TEXTS = {"id": "ID", "type": "Type", "description": "Description"}
_SWITCHES = {"inuse": "InUse", "shared": "Shared"}


class Options:
    filter: dict[str, list[str]] = flag(
        "", 'Show only what meets a condition (e.g. "until=24h", "type=regular")', kind="filter"
    )
    format: str = flag(
        "", "Format of the output: json, or a Go template for each record", default=""
    )
    verbose: bool = flag("", "Show everything that is known of each record")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    records = cli.client.system.df(kind="build-cache").get("BuildCache") or []
    found = [one for one in records if _passes(one, options.filter)]
    found.sort(key=lambda one: one.get("LastUsedAt") or "", reverse=True)
    if options.format:
        from sampan.cli.display.table import render

        columns = {name: lambda it, name=name: it.get(name, "") for name in _NAMES}
        cli.out.write(render(options.format, found, columns, {name: name for name in _NAMES}, {}))
        return 0
    cli.out.write(_verbose(found) if options.verbose else _table(found))
    if not options.filter:
        _summary(cli, found)
    return 0


_NAMES = (
    *("ID", "Parents", "Type", "Description", "InUse", "Shared", "Size", "CreatedAt"),
    *("LastUsedAt", "UsageCount"),
)


def _passes(one: Item, filters: dict[str, list[str]]) -> bool:
    for name, values in filters.items():
        if name == "until":
            from sampan.cli.arguments.values import duration

            age = max(map(duration, values))
            if not one.get("LastUsedAt") or _age(one) * 10**9 < age:
                return False
        elif name in _TEXTS:
            field = str(one.get(_TEXTS[name], ""))
            if not any(value == field if name == "type" else value in field for value in values):
                return False
        elif name in _SWITCHES:
            if one.get(_SWITCHES[name]) is not (values[0].lower() in ("true", "1")):
                return False
        else:
            raise Exit(1, f"invalid filter '{name}'")
    return True


def _age(one: Item) -> float:
    from time import time

    return time() - (parse_time(one["LastUsedAt"]) or 0)


def _used(one: Item) -> str:
    return f"{human_duration(_age(one))} ago" if one.get("LastUsedAt") else ""


def _table(found: list[Item]) -> str:
    from sampan.cli.display.tabwriter import aligned

    rows = [("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED")]
    for one in found:
        shared = "*" if one.get("Shared") else ""
        free = str(not one.get("InUse")).lower()
        rows.append((one["ID"], free, f"{human_size(one['Size'])}{shared}", _used(one)))
    return aligned("".join("\t".join(row) + "\n" for row in rows))


def _verbose(found: list[Item]) -> str:
    blocks = []
    for one in found:
        fields = [("ID", one["ID"])]
        fields += [("Parents", ", ".join(one["Parents"]))] if one.get("Parents") else []
        fields += [
            ("Created at", one["CreatedAt"]),
            ("Reclaimable", str(not one.get("InUse")).lower()),
            ("Shared", str(bool(one.get("Shared"))).lower()),
            ("Size", human_size(one["Size"])),
            ("Description", one.get("Description", "")),
            ("Usage count", str(one.get("UsageCount", 0))),
            ("Last used", _used(one)),
            ("Type", one.get("Type", "")),
        ]
        blocks.append("".join(f"{name + ':':<14}{value}\n" for name, value in fields))
    return "".join(f"{block}\n" for block in blocks)


def _summary(cli: Invocation, found: list[Item]) -> None:
    total = sum(one["Size"] for one in found)
    shared = sum(one["Size"] for one in found if one.get("Shared"))
    free = sum(one["Size"] for one in found if not one.get("InUse"))
    sizes = [("Shared:", shared), ("Private:", total - shared)] if shared else []
    for name, size in [*sizes, ("Reclaimable:", free), ("Total:", total)]:
        cli.out.line(f"{name:<14}{human_size(size)}")
