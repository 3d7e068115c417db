"""Search a registry for images."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.display.table import FORMAT_HELP, render
from sampan.cli.display.tabwriter import ellipsis
from sampan.cli.images.transfer import with_login

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "TERM"
OPERANDS = (1, 1)
LONG = "A term that begins with a host, as in HOST/TERM, is looked for there; else on Docker Hub."
TABLE = r"table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
HEADINGS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
}
DESCRIPTION_COLUMNS = 45
AUTOMATED = (
    'WARNING: the "is-automated" filter is deprecated, and searching for "is-automated=true" '
    "will not yield any results in future."
)


class Options:
    changed: set[str]
    filter: dict[str, list[str]] = flag("f", "Show only what meets a condition", kind="filter")
    format: str = flag("", FORMAT_HELP, default="")
    limit: int = flag("", "Most results to show", kind="int", default=0)
    no_trunc: bool = flag("", "Show everything at full length")
    stars: int = hidden("", "use --filter=stars=3 instead", kind="int", short="s", default=0)
    automated: bool = hidden("", "use --filter=is-automated=true instead", kind="bool")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    term = operands[0]
    filters = {name: [*values] for name, values in options.filter.items()}
    if "stars" in options.changed:
        filters.setdefault("stars", []).append(str(options.stars))
    if "automated" in options.changed:
        filters.setdefault("is-automated", []).append(str(options.automated).lower())
    if "is-automated" in filters:
        cli.err.line(AUTOMATED)
        cli.err.flush()
    found = with_login(
        cli,
        _domain(term),
        "search",
        lambda login: cli.client.images.search(term, options.limit, filters, login),
    )
    layout = TABLE if options.format in ("", "table") else options.format
    truncated = not options.no_trunc
    shown, in_json = _columns(truncated, "[OK]", ""), _columns(truncated, "true", "false")
    cli.out.write(render(layout, found, shown, HEADINGS, in_json=in_json))
    return 0


def _domain(term: str) -> str:
    """Return the registry that a term names; Docker Hub if it names none."""
    first, slash, _ = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def _columns(truncated: bool, true: str, false: str) -> dict[str, Callable[[dict[str, Any]], Any]]:
    def description(item: dict[str, Any]) -> str:
        text = str(item.get("description") or "").replace("\n", " ").replace("\r", " ")
        return ellipsis(text, DESCRIPTION_COLUMNS) if truncated else text

    return {
        "Name": lambda item: item.get("name", ""),
        "Description": description,
        "StarCount": lambda item: str(item.get("star_count") or 0),
        "IsOfficial": lambda item: true if item.get("is_official") else false,
    }
