"""`list`: the containers below the root directory."""

from __future__ import annotations

import sys

from sampan.errors import InvalidArgument
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.ocirun.state import described, shown
from sampan.runtime.container import list_all

FLAGS = (
    flag("--format -f", "table (default) or json", "FORMAT"),
    flag("--quiet -q", "print ids alone"),
)
USAGE = ""
OPERANDS = (0, 0)
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def run(context: Context, given: Arguments) -> int:
    """Print the list."""
    documents = [described(container) for container in list_all(context.root)]
    form = given.get("format", "table")
    if given.has("quiet"):
        sys.stdout.write("".join(f"{document['id']}\n" for document in documents))
    elif form == "json":
        sys.stdout.write(shown(documents) + "\n")
    elif form == "table":
        rows = [tuple(name.upper() for name in _COLUMNS)]
        rows += [tuple(str(document[name]) for name in _COLUMNS) for document in documents]
        sys.stdout.write(table(rows))
    else:
        raise InvalidArgument("invalid format option")
    return 0


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows in aligned columns, as Go's tabwriter has them."""
    widths = [max(12, *(len(cell) + 3 for cell in column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1]
        lines.append("".join(cells) + "\n")
    return "".join(lines)
