"""The columns of container lists (`ps`, `system df -v`).

Source: docker/cli cli/command/formatter/container.go.
"""

from __future__ import annotations

import time

from sampan.cli.display.tabwriter import ellipsis
from sampan.cli.display.units import human_duration, human_size, local_time
from sampan.cli.template.functions import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Summary = dict[str, Any]

SHORT_ID = 12  # digits
HEADINGS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "HealthStatus": "HEALTH STATUS",
}
HEALTH = ("healthy", "unhealthy", "starting")


def short_id(identifier: str) -> str:
    """Return the first digits of an id, without its algorithm."""
    return identifier.partition(":")[2][:SHORT_ID] if ":" in identifier else identifier[:SHORT_ID]


def columns(truncated: bool) -> dict[str, Callable[[Summary], Any]]:
    """Return the columns; `truncated` shortens ids, commands and names of mounts."""
    return {
        "ID": lambda item: short_id(item["Id"]) if truncated else item["Id"],
        "Names": lambda item: names(item, truncated),
        "Image": lambda item: image_name(item, truncated),
        "Command": lambda item: quoted(
            ellipsis(item["Command"], 20) if truncated else item["Command"]
        ),
        "CreatedAt": lambda item: local_time(item["Created"]),
        "RunningFor": lambda item: human_duration(time.time() - item["Created"]) + " ago",
        "Ports": lambda item: ports(item.get("Ports") or []),
        "State": lambda item: item.get("State", ""),
        "Status": lambda item: item["Status"],
        "Size": size,
        "Labels": lambda item: labels(item),
        "Mounts": lambda item: mounts(item, truncated),
        "LocalVolumes": lambda item: str(
            sum(mount.get("Driver") == "local" for mount in item.get("Mounts") or [])
        ),
        "Networks": lambda item: ",".join(
            (item.get("NetworkSettings") or {}).get("Networks") or {}
        ),
        "Platform": platform,
        "HealthStatus": health,
    }


METHODS = {"Label": lambda item, name: (item.get("Labels") or {}).get(name, "")}


def names(item: Summary, truncated: bool) -> str:
    """Return the container's names; truncated, the first that is not a link's."""
    plain = [name.removeprefix("/") for name in item.get("Names") or []]
    if not truncated:
        return ",".join(plain)
    return next((name for name in plain if "/" not in name), "")


def image_name(item: Summary, truncated: bool) -> str:
    image: str = item.get("Image") or "<no image>"
    if not truncated or image == "<no image>":
        return image
    if short_id(item.get("ImageID") or "") == short_id(image):
        return short_id(image)
    return image.partition("@")[0] if not image.startswith("sha256:") else image


def size(item: Summary) -> str:
    own = human_size(item.get("SizeRw") or 0, 3)
    root = item.get("SizeRootFs") or 0
    return f"{own} (virtual {human_size(root, 3)})" if root > 0 else own


def labels(item: Summary) -> str:
    return ",".join(sorted(f"{name}={value}" for name, value in (item.get("Labels") or {}).items()))


def mounts(item: Summary, truncated: bool) -> str:
    found = [mount.get("Name") or mount.get("Source", "") for mount in item.get("Mounts") or []]
    return ",".join(ellipsis(name, 15) if truncated else name for name in found)


def platform(item: Summary) -> str | None:
    found = (item.get("ImageManifestDescriptor") or {}).get("platform")
    if not found:
        return None
    parts = (found.get("os"), found.get("architecture"), found.get("variant"))
    return "/".join(part for part in parts if part)


def health(item: Summary) -> str:
    status = (item.get("Health") or {}).get("Status")
    if not status:
        inside = item["Status"].rpartition("(")[2]
        status = inside[:-1].removeprefix("health: ") if inside.endswith(")") else ""
    return status if status in HEALTH else ""


def ports(items: list[dict[str, Any]]) -> str:
    """Format published and exposed ports; neighbours on one address become a range."""
    groups: dict[tuple[str, str], list[int]] = {}
    done: list[str] = []
    elsewhere: list[str] = []
    for item in sorted(items, key=_port_order):
        private, address, kind = item["PrivatePort"], item.get("IP") or "", item["Type"]
        public = item.get("PublicPort") or 0
        if address and public != private:
            elsewhere.append(f"{host_port(address, str(public))}->{private}/{kind}")
            continue
        group = groups.get((address, kind))
        if group and private == group[1] + 1:
            group[1] = private
            continue
        if group:
            done.append(_group(address, kind, *group))
        groups[address, kind] = [private, private]
    done += [_group(address, kind, *group) for (address, kind), group in groups.items()]
    return ", ".join(done + elsewhere)


def _port_order(item: dict[str, Any]) -> tuple[Any, ...]:
    address = item.get("IP") or ""
    return item["PrivatePort"], ":" in address, address, item.get("PublicPort") or 0, item["Type"]


def _group(address: str, kind: str, first: int, last: int) -> str:
    span = str(first) if first == last else f"{first}-{last}"
    return f"{host_port(address, span)}->{span}/{kind}" if address else f"{span}/{kind}"


def host_port(address: str, port: str) -> str:
    """Join an address and a port; an IPv6 address goes into brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
