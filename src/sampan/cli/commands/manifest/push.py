"""Send a list of manifests to a registry."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit
from sampan.cli.manifests.entries import list_document, list_type
from sampan.cli.manifests.listing import check_registry
from sampan.cli.manifests.registry import ManifestRegistry, normal
from sampan.cli.manifests.store import ManifestStore
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.cli.manifests.entries import Entry
    from sampan.spec.reference import Reference

USAGE = "MANIFEST_LIST"
OPERANDS = (1, 1)
WINDOWS = "windows"  # whose layers may lie elsewhere than in the registry


class Options:
    insecure: bool = flag("", "Allow a registry without TLS; the daemon's settings decide")
    purge: bool = flag("p", "Forget the list here when it is pushed")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    target, store = normal(operands[0]), ManifestStore.of(cli)
    entries = store.entries(target)
    if not entries:
        raise Exit(1, f"{target} not found")
    _check(target, entries)
    registry = ManifestRegistry(cli)
    foreign = [entry for entry in entries if normal(entry.reference).path != target.path]
    for entry in foreign:
        _mount(registry, target, entry)
    for entry in foreign:
        digest = registry.put(target, entry.media_type, entry.content)
        name = f"{target.trimmed()}@{digest}"
        cli.out.line(f"Pushed ref {name} with digest: {digest}")
    content = list_document(entries)
    cli.out.line(registry.put(target, list_type(content), content, target.tag))
    if options.purge:
        store.remove(target)
    return 0


def _check(target: Reference, entries: list[Entry]) -> None:
    for entry in entries:
        platform = entry.platform or {}
        if not platform.get("architecture") or not platform.get("os"):
            raise Exit(
                1,
                f"manifest {entry.reference} must have an OS and Architecture to be pushed to a "
                "registry",
            )
    check_registry(target, entries)


def _mount(registry: ManifestRegistry, target: Reference, entry: Entry) -> None:
    """Make the blobs of a manifest of another repository blobs of the target's."""
    source = normal(entry.reference)
    for digest in entry.blobs():
        try:
            registry.mount(target, digest, source)
        except SampanError as error:
            if (entry.platform or {}).get("os") != WINDOWS:
                raise Exit(
                    1, f"error mounting {source.path}@{digest} to {target}: {error}"
                ) from None
