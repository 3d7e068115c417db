"""The contract of volume drivers. They make no mounts: they say what is to be mounted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sampan.spec.runtime import Mount


class VolumeDriver(Protocol):
    """Keeps volumes somewhere. Calls block: a plug-in may take its time."""

    @property
    def name(self) -> str:
        """Return the name by which users choose it."""

    @property
    def scope(self) -> str:
        """Return "local", or "global" if other machines have the same volumes."""

    def check(self, name: str, options: Mapping[str, str]) -> None:
        """Raise InvalidArgument for a name or options that no volume of this driver can have."""

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make a volume; idempotent."""

    def remove(self, name: str) -> None:
        """Remove a volume with all its data; one that is not there is no error."""

    def path(self, name: str) -> str:
        """Return where the data is on this host; "" while it is nowhere."""

    def status(self, name: str) -> dict[str, Any]:
        """Return what `volume inspect` shows as Status; empty for nothing."""

    def mount(self, name: str, options: Mapping[str, str], user: str) -> Mount:
        """Make the data ready for a container, and return the bind mount that it gets.

        `user` is the container's id; idempotent for each. Raises what the driver says.
        """

    def unmount(self, name: str, options: Mapping[str, str], user: str, *, last: bool) -> None:
        """Let go for a container; `last`: no other one has it."""
