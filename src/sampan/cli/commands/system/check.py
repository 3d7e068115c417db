"""Check that everything the daemon keeps is whole."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.columns import short_id
from sampan.cli.display.output import plain
from sampan.cli.display.table import FORMAT_HELP, render
from sampan.cli.display.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)
LONG = """All digests are computed again, all references followed and all mounts compared; that
reads every layer and takes its time. The status is 1 if a problem is left."""
TABLE = r"table {{.Kind}}\t{{.Object}}\t{{.Message}}\t{{.Repaired}}"
HEADINGS = {"Kind": "KIND", "Object": "OBJECT", "Message": "PROBLEM", "Repaired": "REPAIRED"}
COUNTED = ("Images", "Layers", "Blobs", "References", "Mounts")


class Options:
    format: str = flag("", FORMAT_HELP, default="")
    repair: bool = flag("", "Repair what can be repaired, and remove what cannot be used any more")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    report = cli.client.system.check(options.repair)
    problems: list[dict[str, Any]] = report.get("Problems") or []
    if options.format == "json":
        import json

        cli.out.line(json.dumps(report, separators=(",", ":"), ensure_ascii=False))
    elif options.format:
        layout = TABLE if options.format == "table" else options.format
        cli.out.write(render(layout, problems, COLUMNS, HEADINGS))
    else:
        for problem in problems:
            cli.out.line(_sentence(problem))
        cli.out.line(_summary(report.get("Checked") or {}, problems))
    return 1 if any(not problem.get("Repaired") for problem in problems) else 0


def _sentence(problem: dict[str, Any]) -> str:
    kind, name, message, _ = (COLUMNS[column](problem) for column in HEADINGS)
    if name not in message and short_id(name) not in message:
        message = f"{kind} {name}: {message}"
    return plain(message + (" (repaired)" if problem.get("Repaired") else ""))


def _summary(checked: dict[str, Any], problems: list[dict[str, Any]]) -> str:
    counts = [
        f"{number} {name.lower() if number != 1 else name.lower().removesuffix('s')}"
        for name in COUNTED
        if (number := checked.get(name, 0))
    ]
    what = f"Checked {', '.join(counts) or 'nothing'} ({human_size(checked.get('Bytes', 0))}): "
    if not problems:
        return what + "no problems"
    repaired = sum(bool(problem.get("Repaired")) for problem in problems)
    found = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return what + found + (f", {repaired} repaired" if repaired else "")


COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Kind": lambda item: str(item.get("Kind", "")),
    "Object": lambda item: str(item.get("Object", "")),
    "Message": lambda item: str(item.get("Message", "")).replace("\n", " "),
    "Repaired": lambda item: "yes" if item.get("Repaired") else "no",
}
