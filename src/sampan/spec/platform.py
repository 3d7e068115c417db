"""Platforms: `linux/arm64/v8`, normalised and matched as containerd does.

Source: containerd/platforms platforms.go, database.go, compare.go.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Self

import msgspec

from sampan.errors import InvalidArgument

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_OSES = frozenset(
    {"android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "solaris", "windows"}
)
_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x", "wasm"}
)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, normalised."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the platform that `text` means: os, architecture, os/architecture[/variant]."""
        parts = text.split("/")
        if "*" in text:
            raise InvalidArgument(f'"{text}": wildcards not yet supported: invalid argument')
        for part in parts:
            if not _COMPONENT.fullmatch(part):
                raise InvalidArgument(
                    f'"{part}" is an invalid component of "{text}": platform specifier component'
                    f' must match "^[A-Za-z0-9_.-]+$": invalid argument'
                )
        if len(parts) > 3:
            raise InvalidArgument(f'"{text}": cannot parse platform specifier: invalid argument')
        if len(parts) == 1:
            return cls._parse_one(text)
        os_name = _normal_os(parts[0])
        architecture, variant = _normal(parts[1], parts[2] if len(parts) == 3 else "")
        return cls(os_name, architecture, variant)

    @classmethod
    def _parse_one(cls, text: str) -> Self:
        if (os_name := _normal_os(text)) in _OSES:
            return cls(os_name, cls.host().architecture)
        architecture, variant = _normal(text, "")
        if architecture in _ARCHITECTURES:
            return cls("linux", architecture, variant)
        raise InvalidArgument(
            f'"{text}": unknown operating system or architecture: invalid argument'
        )

    @classmethod
    def of(cls, os_name: str, architecture: str, variant: str = "") -> Self:
        """Return the normalised platform of an image's config."""
        return cls(_normal_os(os_name or "linux"), *_normal(architecture, variant))

    @classmethod
    def host(cls) -> Self:
        """Return this machine's platform."""
        machine = os.uname().machine
        return cls("linux", *_normal(_MACHINES.get(machine, machine), ""))

    def runs(self, image: Platform) -> bool:
        """Tell whether an image of the platform `image` serves a request for this platform."""
        if self.os != image.os or self.architecture != image.architecture:
            return False
        if not image.variant or self.variant == image.variant:
            return True
        if self.architecture == "arm":
            return _level(image.variant) <= _level(self.variant or "v7")
        return False

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class PlatformBody(msgspec.Struct, rename="lower", kw_only=True, omit_defaults=True):
    """A platform in an index, or as clients of the API send it."""

    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str = ""


def _level(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdecimal() and len(digits) < 4 else 0


def _normal_os(name: str) -> str:
    name = name.lower()
    return "darwin" if name == "macos" else name


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in ("i386",):
        return "386", ""
    if architecture in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if architecture in ("aarch64", "arm64"):
        return "arm64", "" if variant in ("8", "v8", "v8.0") else variant
    if architecture == "armhf":
        return "arm", "v7"
    if architecture == "armel":
        return "arm", "v6"
    if architecture == "arm":
        return "arm", {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"}.get(variant, variant)
    return architecture, variant
