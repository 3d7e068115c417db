"""Say more about a manifest in a list."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit
from sampan.cli.manifests.entries import platform_fields
from sampan.cli.manifests.listing import is_known
from sampan.cli.manifests.registry import normal
from sampan.cli.manifests.store import ManifestStore
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.spec.reference import Reference

USAGE = "MANIFEST_LIST MANIFEST"
OPERANDS = (2, 2)


class Options:
    arch: str = flag("", "Architecture", default="")
    os: str = flag("", "Operating system", default="")
    os_features: list[str] = flag("", "Feature of the operating system", kind="slice")
    os_version: str = flag("", "Version of the operating system", default="")
    variant: str = flag("", "Variant of the architecture", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    target = _named(operands[0], "manifest list")
    reference = _named(operands[1], "manifest")
    store = ManifestStore.of(cli)
    try:
        entry = store.get(target, reference)
    except NotFound:
        entry = None
    if entry is None:
        raise Exit(1, f"manifest for image {operands[1]} does not exist in {operands[0]}")
    platform = dict(entry.platform or {})
    given = {
        "os": options.os,
        "architecture": options.arch,
        "variant": options.variant,
        "os.version": options.os_version,
    }
    platform |= {name: value for name, value in given.items() if value}
    features = [*(platform.get("os.features") or []), *options.os_features]
    platform["os.features"] = list(dict.fromkeys(features))
    entry.platform = platform_fields(platform)
    if not is_known(entry.platform["os"], entry.platform["architecture"]):
        raise Exit(
            1,
            "manifest entry for image has unsupported os/arch combination: "
            f"{options.os}/{options.arch}",
        )
    store.save(target, reference, entry)
    return 0


def _named(text: str, what: str) -> Reference:
    try:
        return normal(text)
    except InvalidArgument as error:
        raise Exit(1, f"annotate: error parsing name for {what} {text}: {error}") from None
