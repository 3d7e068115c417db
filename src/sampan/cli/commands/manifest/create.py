"""Make a list of manifests, to be annotated and pushed."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit
from sampan.cli.manifests.registry import ManifestRegistry, normal
from sampan.cli.manifests.store import ManifestStore
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.cli.manifests.entries import Entry
    from sampan.spec.reference import Reference

USAGE = "MANIFEST_LIST MANIFEST [MANIFEST...]"
OPERANDS = (2, None)


class Options:
    amend: bool = flag("a", "Change a list that is there")
    insecure: bool = flag("", "Allow a registry without TLS; the daemon's settings decide")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    name, *manifests = operands
    try:
        target = normal(name)
    except InvalidArgument as error:
        raise Exit(1, f"error parsing name for manifest list {name}: {error}") from None
    store, registry = ManifestStore.of(cli), ManifestRegistry(cli)
    if _exists(store, target) and not options.amend:
        raise Exit(1, "refusing to amend an existing manifest list with no --amend flag")
    for manifest in manifests:
        reference = normal(manifest)
        store.save(target, reference, _entry(store, registry, target, reference))
    cli.out.line("Created manifest list", target)
    return 0


def _exists(store: ManifestStore, target: Reference) -> bool:
    try:
        store.entries(target)
    except NotFound:
        return False
    return True


def _entry(
    store: ManifestStore, registry: ManifestRegistry, target: Reference, reference: Reference
) -> Entry:
    """Return the manifest as it is in the list already, else the registry's."""
    try:
        kept = store.get(target, reference)
    except NotFound:
        kept = None
    return kept or registry.image(reference)
