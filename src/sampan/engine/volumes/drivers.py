"""The drivers of volumes: the local one, and plug-ins, which are looked for when they are named."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from sampan.errors import SampanError, Unavailable
from sampan.storage.volume_keeper import VolumeKeeper
from sampan.volumes.driver import VolumeDriver
from sampan.volumes.local import LOCAL, LocalDriver
from sampan.volumes.plugin import PluginDriver

_DIAL_SECONDS: Final = 10.0


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Put before an error of a driver what was being done, as Docker does."""
    try:
        yield
    except SampanError as error:
        if str(error).startswith(what):
            raise
        raise type(error)(f"{what}: {error}") from error


class Drivers:
    """Finds drivers by name; all calls block."""

    def __init__(
        self, local: LocalDriver, keeper: VolumeKeeper, forbidden: Sequence[str], seconds: float
    ) -> None:
        self.local, self._keeper = local, keeper
        self._forbidden, self._seconds = forbidden, seconds
        self._plugins: dict[str, PluginDriver] = {}

    def get(self, name: str) -> VolumeDriver:
        """Return a driver; NotFound in Docker's words if nobody has that name."""
        if name in ("", LOCAL):
            return self.local
        return self.plugin(name)

    def plugin(self, name: str) -> PluginDriver:
        """Return a plug-in, after it has said that it is one."""
        if name in self._plugins:
            return self._plugins[name]
        found = PluginDriver(name, lambda: self._dial(name), self._forbidden, self._seconds)
        try:
            found.activate()
        except SampanError as error:
            raise type(error)(f"error looking up volume plugin {name}: {error}") from error
        self._plugins[name] = found
        return found

    def names(self) -> list[str]:
        """Return the names of all drivers that there are."""
        try:
            announced = self._keeper.plugins()
        except Unavailable:
            announced = []
        return sorted({LOCAL, *announced, *self._plugins})

    def active(self) -> list[PluginDriver]:
        """Return the plug-ins that were used."""
        return list(self._plugins.values())

    def forget(self, name: str) -> None:
        """Look for a plug-in again when it is named next."""
        self._plugins.pop(name, None)

    def _dial(self, name: str) -> socket.socket:
        way = self._keeper.dial_plugin(name)
        if way.sock is not None:
            return socket.socket(fileno=way.sock.detach())
        parts = urlsplit(way.address)
        try:
            return socket.create_connection((parts.hostname, parts.port), _DIAL_SECONDS)
        except (OSError, ValueError) as error:
            raise Unavailable(
                f'plugin "{name}" does not answer at {way.address}: {error}'
            ) from error
