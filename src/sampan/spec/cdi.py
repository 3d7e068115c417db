"""The Container Device Interface: files in which a vendor says what a device needs in a container.

Source: cncf-tags/container-device-interface SPEC.md, versions 0.3 to 1.0.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sampan.errors import InvalidArgument

SPEC_DIRS = ("/etc/cdi", "/var/run/cdi")  # the later one wins
_VENDOR = r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_CLASS = r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_DEVICE = r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?"
KIND = re.compile(f"{_VENDOR}/{_CLASS}", re.ASCII)
QUALIFIED = re.compile(f"({_VENDOR}/{_CLASS})=({_DEVICE})", re.ASCII)


class _Struct(
    msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    pass


class DeviceNode(_Struct):
    """A node to make; what is not said is that of the node on the host."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class CDIMount(_Struct):
    """A path of the host to mount."""

    host_path: str
    container_path: str
    type: str = ""
    options: list[str] = []


class CDIHook(_Struct):
    """A program of the host to run at a point of the life cycle."""

    hook_name: str
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class ContainerEdits(_Struct):
    """What a device changes in the specification of a container."""

    env: list[str] = []
    device_nodes: list[DeviceNode] = []
    mounts: list[CDIMount] = []
    hooks: list[CDIHook] = []
    additional_gids: list[int] = []
    intel_rdt: dict[str, Any] | None = None
    net_devices: list[dict[str, Any]] = []


class CDIDevice(_Struct):
    """One device of a kind."""

    name: str
    annotations: dict[str, str] = {}
    container_edits: ContainerEdits = msgspec.field(default_factory=ContainerEdits)


class CDISpec(_Struct):
    """One file."""

    cdi_version: str
    kind: str
    annotations: dict[str, str] = {}
    devices: list[CDIDevice] = []
    container_edits: ContainerEdits = msgspec.field(default_factory=ContainerEdits)


def parse_name(name: str) -> tuple[str, str]:
    """Return kind and device of "vendor.com/class=name"; raises InvalidArgument."""
    found = QUALIFIED.fullmatch(name)
    if not found:
        raise InvalidArgument(f'unqualified device "{name}": it must be vendor.com/class=name')
    return found[1], found[2]


def parse_spec(document: object) -> CDISpec:
    """Return a checked document; raises InvalidArgument."""
    try:
        spec = msgspec.convert(document, CDISpec)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid CDI specification: {error}") from None
    if not KIND.fullmatch(spec.kind):
        raise InvalidArgument(f'invalid CDI specification: invalid kind "{spec.kind}"')
    for device in spec.devices:
        if not QUALIFIED.fullmatch(f"{spec.kind}={device.name}"):
            raise InvalidArgument(f'invalid CDI specification: invalid device "{device.name}"')
    return spec
