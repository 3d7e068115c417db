"""Volumes on this host: folders below the data root, with something mounted on them if wished.

Source: moby daemon/volume/local local.go, local_unix.go.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

from sampan.errors import InvalidArgument
from sampan.spec.addresses import is_address
from sampan.spec.names import VOLUME, VOLUME_BYTES
from sampan.spec.runtime import Mount
from sampan.spec.sizes import parse_size

LOCAL: Final = "local"
_KNOWN: Final = ("type", "o", "device", "size")
_NEEDED: Final = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_ADDRESS: Final = re.compile(r"(?:^|,)addr=([^,]+)")


class Folders(Protocol):
    """What this driver has done by somebody with privilege."""

    def make_volume(self, name: str, size: int = 0) -> None:
        """Make the folder of a volume."""

    def remove_volume(self, name: str) -> None:
        """Remove it, with all that is in it."""

    def mount_volume(self, name: str, mount: Mount) -> None:
        """Mount something on it, if nothing is."""

    def unmount_volume(self, name: str) -> None:
        """Take that away."""


def resolve(host: str) -> str:
    """Return an address of a host; IPv4 before IPv6. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    found.sort(key=lambda item: item[0] != socket.AF_INET)
    return str(found[0][4][0])


class LocalDriver:
    """The driver that is always there."""

    name = LOCAL
    scope = "local"

    def __init__(
        self, folders: Folders, root: Path, resolve: Callable[[str], str] = resolve
    ) -> None:
        self._folders, self._root, self._resolve = folders, root, resolve

    def check(self, name: str, options: Mapping[str, str]) -> None:
        """Check a name and options; raises InvalidArgument in Docker's words."""
        check_name(name)
        for option in options:
            if option not in _KNOWN:
                raise InvalidArgument(f'invalid option: "{option}"')
        if options.get("type") == "cifs" and _url(options.get("device", "")).port:
            raise InvalidArgument("port not allowed in CIFS device URL, include 'port' in 'o='")
        size_of(options)
        for option, needed in _NEEDED.items():
            for other in needed:
                if option in options and other not in options:
                    raise InvalidArgument(f'missing required option: "{other}"')

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make the folder."""
        self._folders.make_volume(name, size_of(options))

    def remove(self, name: str) -> None:
        """Remove the folder; what is mounted on it stays as it is elsewhere."""
        self._folders.remove_volume(name)

    def path(self, name: str) -> str:
        """Return the folder."""
        return str(self._root / "volumes" / name / "_data")

    def status(self, name: str) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def mount(self, name: str, options: Mapping[str, str], user: str) -> Mount:
        """Mount what the options say on the folder, and have the folder bound."""
        if is_mounted(options):
            try:
                self._folders.mount_volume(name, self._wanted(options))
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"error while mounting volume '{self.path(name)}': {_masked(str(error))}"
                ) from error
        return Mount(destination="", type="bind", source=self.path(name), options=["rbind"])

    def unmount(self, name: str, options: Mapping[str, str], user: str, *, last: bool) -> None:
        """Unmount after the last container."""
        if last and is_mounted(options):
            self._folders.unmount_volume(name)

    def _wanted(self, options: Mapping[str, str]) -> Mount:
        kind, device, words = options["type"], options["device"], options.get("o", "")
        if kind in ("nfs", "nfs4", "cifs"):
            found = _ADDRESS.search(words)
            if found and not is_address(found[1].partition("%")[0]):
                words = words.replace(f"addr={found[1]}", f"addr={self._address(found[1])}", 1)
            elif kind == "cifs" and not found:
                device = self._resolved_device(device)
        return Mount(
            destination="",
            type=kind,
            source=device,
            options=[word for word in words.split(",") if word],
        )

    def _resolved_device(self, device: str) -> str:
        host = _url(device).hostname or ""
        if not host or is_address(host.partition("%")[0]):
            return device
        return device.replace(host, self._address(host), 1)

    def _address(self, host: str) -> str:
        try:
            return self._resolve(host)
        except OSError as error:
            raise InvalidArgument(
                f"error resolving passed in network volume address: lookup {host}: {error.strerror}"
            ) from error


def check_name(name: str) -> None:
    """Raise InvalidArgument unless a local volume can be called so."""
    if len(name) == 1:
        raise InvalidArgument(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if not VOLUME.fullmatch(name):
        raise InvalidArgument(
            f'"{name}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory,'
            " use absolute path"
        )
    if len(name) > VOLUME_BYTES:
        raise InvalidArgument(f"volume name is too long: {len(name)} bytes, at most {VOLUME_BYTES}")


def size_of(options: Mapping[str, str]) -> int:
    """Return the bytes that a volume may have; 0 for no limit."""
    try:
        return parse_size(options["size"]) if "size" in options else 0
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def is_mounted(options: Mapping[str, str]) -> bool:
    """Tell whether a volume is something else than its folder."""
    return bool(options.get("type") or options.get("device"))


def has_foreign_ids(options: Mapping[str, str]) -> bool:
    """Tell whether others than containers decide whose the files of a volume are.

    Those of a server, or of a folder of the host.
    """
    is_bind = {"bind", "rbind"} & set(options.get("o", "").split(","))
    return bool(is_bind) or options.get("type") in ("bind", "nfs", "nfs4", "cifs")


def _url(device: str) -> SplitResult:
    try:
        found = urlsplit(device)
        _ = found.port
    except ValueError as error:
        raise InvalidArgument(f"error parsing mount device url: {error}") from error
    return found


def _masked(sentence: str) -> str:
    return re.sub(r"password=[^,\s]*", "password=********", sentence)
