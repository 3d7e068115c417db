"""Show a manifest, or a list of manifests."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.manifests.entries import LISTS, Entry, go_json, list_document, parsed
from sampan.cli.manifests.json_text import indented
from sampan.cli.manifests.listing import check_registry
from sampan.cli.manifests.registry import ManifestRegistry, normal
from sampan.cli.manifests.store import ManifestStore
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.spec.reference import Reference

USAGE = "[MANIFEST_LIST] MANIFEST"
OPERANDS = (1, 2)
LONG = """A list that was made here and not pushed yet is shown before one of a registry. With two
names it is the manifest in such a list."""


class Options:
    insecure: bool = flag("", "Allow a registry without TLS; the daemon's settings decide")
    verbose: bool = flag("v", "Show layers and platforms too")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    reference, store = normal(operands[-1]), ManifestStore.of(cli)
    if len(operands) == 2:
        entry = store.get(normal(operands[0]), reference)
        if entry is None:
            raise InvalidArgument(f"{reference} has no payload")
        return _print_one(cli, entry, options.verbose)
    try:
        return _print_list(cli, reference, store.entries(reference), options.verbose)
    except NotFound:
        pass  # it is not one of ours
    registry = ManifestRegistry(cli)
    kind, content = registry.fetch(reference)
    if kind in LISTS:
        entries = registry.listed(reference, content)
        return _print_list(cli, reference, entries, options.verbose)
    return _print_one(cli, registry.entry(reference, kind, content), options.verbose)


def _print_one(cli: Invocation, entry: Entry, verbose: bool) -> int:
    if verbose:
        cli.out.line(go_json(entry.document(), "\t"))
    else:
        parsed(entry.content)
        cli.out.line(indented(entry.content.decode("utf-8", "replace")))
    return 0


def _print_list(cli: Invocation, reference: Reference, entries: list[Entry], verbose: bool) -> int:
    if verbose:
        cli.out.line(go_json([entry.document() for entry in entries], "\t"))
        return 0
    check_registry(reference, entries, "failed to assemble ManifestDescriptor: ")
    cli.out.line(list_document(entries).decode("utf-8", "surrogatepass"))
    return 0
