"""Create a volume."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "[VOLUME]"
OPERANDS = (0, 1)
CLUSTER = (
    *("availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing"),
    *("topology-preferred", "topology-required", "type"),
)


class Options:
    availability: str = flag(
        "", 'Of a cluster volume: "active", "pause", "drain"', default="active"
    )
    driver: str = flag("d", "Driver of the volume", default="local")
    group: str = flag("", "Group of a cluster volume", default="")
    label: list[str] = flag("", "Label of the volume", kind="list")
    limit_bytes: int = flag("", "Least size of a cluster volume", kind="bytes")
    opt: dict[str, str] = flag("o", "Option of the driver: type, device, o, size", kind="map")
    required_bytes: int = flag("", "Greatest size of a cluster volume", kind="bytes")
    scope: str = flag("", 'Of a cluster volume: "single", "multi"', default="single")
    secret: dict[str, str] = flag("", "Secret of a cluster volume", kind="map")
    sharing: str = flag(
        "", 'Of a cluster volume: "none", "readonly", "onewriter", "all"', default="none"
    )
    topology_preferred: list[str] = flag("", "Where a cluster volume had best be", kind="list")
    topology_required: list[str] = flag("", "Where a cluster volume has to be", kind="list")
    type: str = flag("", 'Of a cluster volume: "mount", "block"', default="block")
    changed: set[str]


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    document = {
        "Name": operands[0] if operands else "",
        "Driver": options.driver,
        "DriverOpts": options.opt,
        "Labels": dict(label.partition("=")[::2] for label in options.label) or None,
    }
    if options.changed & {name.replace("-", "_") for name in CLUSTER}:
        document["ClusterVolumeSpec"] = _cluster(options)
    cli.out.line(cli.client.volumes.create(document)["Name"])
    return 0


def _cluster(options: Options) -> dict[str, Any]:
    if options.type not in ("mount", "block"):
        raise Exit(1, f'invalid access type "{options.type}": must be "mount" or "block"')
    mode = {"Scope": options.scope, "Sharing": options.sharing}
    return {
        "Group": options.group,
        "AccessMode": {**mode, f"{options.type.title()}Volume": {}},
        "Availability": options.availability,
        "CapacityRange": {
            "RequiredBytes": options.required_bytes,
            "LimitBytes": options.limit_bytes,
        },
        "Secrets": [{"Key": key, "Secret": name} for key, name in options.secret.items()],
        "AccessibilityRequirements": {
            "Requisite": [_segments(text) for text in options.topology_required],
            "Preferred": [_segments(text) for text in options.topology_preferred],
        },
    }


def _segments(text: str) -> dict[str, Any]:
    return {"Segments": dict(part.partition("=")[::2] for part in text.split(","))}
