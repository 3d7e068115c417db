"""Forget lists of manifests that were made here."""

from __future__ import annotations

from sampan.cli.invocation import Exit
from sampan.cli.manifests.registry import normal
from sampan.cli.manifests.store import ManifestStore
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "MANIFEST_LIST [MANIFEST_LIST...]"
OPERANDS = (1, None)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    store = ManifestStore.of(cli)
    errors = []
    for name in operands:
        try:
            store.remove(normal(name))
        except SampanError as error:
            errors.append(str(error))
    if errors:
        raise Exit(1, "\n".join(errors))
    return 0
