"""Change a cluster volume."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[VOLUME]"
OPERANDS = (1, 1)


class Options:
    availability: str = flag("", 'One of "active", "pause", "drain"', default="active")
    changed: set[str]


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    volume = cli.client.volumes.inspect(operands[0])
    cluster = volume.get("ClusterVolume") or {}
    if not cluster:
        cli.err.line("Can only update cluster volumes")
        return 1
    spec = {**(cluster.get("Spec") or {})}
    if "availability" in options.changed:
        spec["Availability"] = options.availability
    version = int((cluster.get("Version") or {}).get("Index") or 0)
    cli.client.volumes.update(str(cluster["ID"]), version, {"Spec": spec})
    return 0
