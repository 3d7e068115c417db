"""List images."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.table import FORMAT_HELP, render
from sampan.cli.images.columns import HEADINGS, columns, rows
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[REPOSITORY[:TAG]]"
ALIASES = "image ls, image list, images"
OPERANDS = (0, 1)
_CREATED = "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}"
TABLE = rf"table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{{{{.ID}}}}\t{_CREATED}\t{{{{.Size}}}}"
# What people mean who type `images ls`: that searches for an image of this name.
VERBS = frozenset(("build history import inspect list load ls prune pull push rm save tag").split())
DIGESTS = r"table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t" + _CREATED + r"\t{{.Size}}"


class Options:
    all: bool = flag("a", "Show intermediate images too")
    digests: bool = flag("", "Show digests")
    filter: dict[str, list[str]] = flag("f", "Show only what meets a condition", kind="filter")
    format: str = flag("", FORMAT_HELP, default="")
    no_trunc: bool = flag("", "Show everything at full length")
    quiet: bool = flag("q", "Show ids only")
    tree: bool = flag("", "Show the platforms of each image below it (experimental)")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    filters = dict(options.filter)
    if operands:
        filters["reference"] = [*filters.get("reference", []), operands[0]]
    if options.tree:
        return _tree(cli, options, filters)
    found = cli.client.images.list(options.all, filters)
    layout = options.format or (cli.setting("imagesFormat") if not options.quiet else "") or "table"
    if layout == "table":
        layout = "{{.ID}}" if options.quiet else DIGESTS if options.digests else TABLE
    elif layout == "raw":
        layout = _raw(options)
    elif options.digests and layout.startswith("table") and "{{.Digest}}" not in layout:
        layout += r"\t{{.Digest}}"
    items = rows(found, options.digests or "{{.Digest}}" in layout, options.digests)
    cli.out.write(render(layout, items, columns(not options.no_trunc), HEADINGS))
    if operands and not found and cli.path == "images" and operands[0] in VERBS:
        cli.err.line(
            f'\nNo images found matching "{operands[0]}": '
            f'did you mean "sampan image {operands[0]}"?'
        )
    return 0


def _tree(cli: Invocation, options: Options, filters: dict[str, list[str]]) -> int:
    contradictions = {
        "quiet": options.quiet,
        "no-trunc": options.no_trunc,
        "show-digest": options.digests,
        "format": options.format,
    }
    for name, given in contradictions.items():
        if given:
            raise Exit(1, f"--{name} is not yet supported with --tree")
    from sampan.cli.images.tree import print_tree

    print_tree(cli.out, cli.client.images.list(options.all, filters, manifests=True), options.all)
    return 0


def _raw(options: Options) -> str:
    if options.quiet:
        return "image_id: {{.ID}}"
    digest = "digest: {{.Digest}}\n" if options.digests else ""
    return (
        f"repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{digest}"
        "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
    )
