"""What steps may do that others may not: the host's network, all of the host, its devices.

The client of a build grants it (`--allow`), as far as the daemon lets it. Every RUN passes through
here, whichever face, front end or ONBUILD it comes from (CVE-2024-23653).

Source: buildkit util/entitlements/entitlements.go, solver/llbsolver/vertex.go (rules and messages);
moby daemon/internal/builder-next/controller.go (what a daemon supports).
"""

from __future__ import annotations

import csv
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.build.instructions.model import Device
from sampan.errors import InvalidArgument
from sampan.spec.build import FoundDevice

NETWORK_HOST: Final = "network.host"
INSECURE: Final = "security.insecure"
DEVICE: Final = "device"
_ALL: Final = (NETWORK_HOST, INSECURE, DEVICE)
SUPPORTED: Final = (NETWORK_HOST, DEVICE)  # by a daemon that is not told otherwise
Find = Callable[[str], Awaitable[Sequence[FoundDevice]]]  # registered devices of a name or class


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What one build is granted."""

    names: frozenset[str] = frozenset()
    devices: Mapping[str, str] = field(default_factory=dict)  # what each name stands for, or ""
    all_devices: bool = False

    @classmethod
    def parse(cls, granted: Iterable[str], supported: Iterable[str]) -> Entitlements:
        """Return what a client grants. InvalidArgument for what there is not, or may not be."""
        names: set[str] = set()
        devices: dict[str, str] = {}
        all_devices = False
        for text in granted:
            name, _, rest = text.partition("=")
            if name not in _ALL or (rest and name != DEVICE):
                raise InvalidArgument(f"unknown entitlement {text}")
            if name not in supported:
                raise InvalidArgument(
                    f"granting entitlement {name} is not allowed by build daemon configuration"
                )
            names.add(name)
            if rest:
                devices |= _device(rest)
            all_devices |= name == DEVICE and not rest
        return cls(frozenset(names), devices, all_devices)

    def check(self, *, network: str, insecure: bool) -> None:
        """Raise InvalidArgument for what is not granted."""
        for name, wanted in ((NETWORK_HOST, network == "host"), (INSECURE, insecure)):
            if wanted and name not in self.names:
                raise InvalidArgument(f"{name} is not allowed")

    async def found(self, wanted: Sequence[Device], find: Find) -> list[str]:
        """Return the names of devices that a step gets; InvalidArgument."""
        names: dict[str, None] = {}
        forbidden: dict[str, None] = {}
        granted = await self._granted(find) if wanted else set()
        for device in wanted:
            alias = self.devices.get(device.name)
            for one in await _registered(alias or device.name, find, required=device.required):
                if self.all_devices or alias or one.name in granted or one.auto_allow:
                    names[one.name] = None
                else:
                    forbidden[one.name] = None
        if forbidden:
            subject = "device {} is" if len(forbidden) == 1 else "devices {} are"
            which = subject.format(", ".join(forbidden))
            raise InvalidArgument(f"{which} requested by the build but not allowed")
        return list(names)

    async def _granted(self, find: Find) -> set[str]:
        plain = [name for name, alias in self.devices.items() if not alias]
        found = [await _registered(name, find, required=True) for name in plain]
        return {device.name for devices in found for device in devices}


async def _registered(name: str, find: Find, *, required: bool) -> Sequence[FoundDevice]:
    devices = await find(name)
    if required and not devices:
        raise InvalidArgument(f'required device "{name}" is not registered')
    return devices


def _device(text: str) -> dict[str, str]:
    """Return the device of `device=NAME[,alias=OTHER]`, by the name that steps have for it."""
    try:
        name, *fields = next(csv.reader([text], strict=True), [""])
    except csv.Error as error:
        raise InvalidArgument(f"invalid device config {text!r}: {error}") from error
    alias = ""
    for one in fields:
        key, equals, value = one.partition("=")
        if not equals:
            raise InvalidArgument(f'invalid device config "{one}"')
        if key != "alias":
            raise InvalidArgument(f'unknown device config key "{key}"')
        alias = value
    return {alias: name} if alias else {name: ""}
