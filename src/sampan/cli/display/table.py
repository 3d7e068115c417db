"""Lists as `--format` wants them: a table, one JSON document per line, or a template."""

from __future__ import annotations

from sampan.cli.display.output import Styled, plain
from sampan.cli.display.tabwriter import aligned
from sampan.cli.invocation import Exit
from sampan.cli.template.engine import Template
from sampan.cli.template.lexer import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Columns = Mapping[str, Callable[[Any], Any]]
    Methods = Mapping[str, Callable[..., Any]]

# The columns' headings are passed through the same template, where these must not change them.
_HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: lambda value, *_: value
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate")
}
FORMAT_HELP = (
    "Format of the output:\n"
    "'table':            A table with headings (default)\n"
    "'table TEMPLATE':   A table of what the Go template gives\n"
    "'json':             One JSON document per line\n"
    "'TEMPLATE':         What the Go template gives"
)
INSPECT_FORMAT_HELP = (
    "Format of the output:\n"
    "'json':             JSON without line breaks\n"
    "'TEMPLATE':         What the Go template gives"
)


class Row:
    """One item of a list as templates see it: columns, computed when they are asked for."""

    __slots__ = ("_columns", "_in_json", "_item", "_methods")

    def __init__(
        self, columns: Columns, item: Any, methods: Methods, in_json: Columns | None = None
    ) -> None:
        self._columns = columns
        self._item = item
        self._methods = methods  # columns that take an argument
        self._in_json = columns if in_json is None else in_json

    def column(self, name: str, default: Any) -> Any:
        """Return a column's value, or the function that is a method."""
        if name in self._columns:
            value = self._columns[name](self._item)
            return plain(value) if isinstance(value, str) else value
        if name in self._methods:
            method = self._methods[name]
            return lambda *arguments: method(self._item, *arguments)
        return default

    def document(self) -> dict[str, Any]:
        """Return all columns, for `json`."""
        return {name: self._in_json[name](self._item) for name in sorted(self._in_json)}


class _Header:
    __slots__ = ("_headings",)

    def __init__(self, headings: Mapping[str, str]) -> None:
        self._headings = headings

    def column(self, name: str, default: Any) -> Any:
        if name == "Label":
            return lambda label: label
        return self._headings.get(name, default)

    def document(self) -> dict[str, str]:
        return dict(self._headings)


def render(
    format: str,
    items: Iterable[Any],
    columns: Columns,
    headings: Mapping[str, str],
    methods: Methods | None = None,
    in_json: Columns | None = None,
) -> str:
    """Return the list in a format; `table …` begins with the headings.

    `in_json` are the columns of a row's JSON document, where they are others.

    Raises Exit with docker's message for a template that does not parse or apply.
    """
    is_table = format.startswith("table")
    try:
        template = Template(template_text(format))
        lines = [
            template.apply(Row(columns, item, methods or {}, in_json)) + "\n" for item in items
        ]
    except TemplateError as error:
        raise Exit(1, f"template parsing error: {error}") from None
    text = "".join(lines)
    if is_table:
        header = Template(template_text(format), lenient=True).with_functions(_HEADER_FUNCTIONS)
        text = aligned(header.apply(_Header(headings)) + "\n" + text)
    # The values are harmless, so what is left are the escapes of the user's format.
    return Styled(text) if "\x1b" in format else text


def check_columns(format: str, headings: Mapping[str, str]) -> None:
    """Raise Exit for a template that does not parse, or names a column that there is none of."""
    try:
        template = Template(template_text(format))
    except TemplateError as error:
        raise Exit(1, f"failed to parse template: {error}") from None
    try:
        template.apply(_Header(headings))
    except TemplateError as error:
        raise Exit(1, f"failed to execute template: {error}") from None


def template_text(format: str) -> str:
    r"""Return the template of a format; `\t` and `\n` written out become tab and newline."""
    if format == "json":
        return "{{json .}}"
    text = format.removeprefix("table") if format.startswith("table") else format
    return text.strip(" ").replace("\\t", "\t").replace("\\n", "\n")


def uses(format: str, column: str) -> bool:
    """Whether a template asks for a column."""
    return f".{column}" in format or "json ." in format


def parsed(format: str, status: int = 64) -> Template:
    """Parse the template of `inspect -f` and the like; raises Exit."""
    try:
        return Template("{{json .}}" if format == "json" else format)
    except TemplateError as error:
        raise Exit(status, f"template parsing error: {error}") from None
