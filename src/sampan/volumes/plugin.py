"""Drivers in processes of others: Docker's volume plug-in protocol, JSON over HTTP on a socket.

A plug-in is a stranger: it may be slow, dead, or lie. Every call has a deadline, every answer a
limit, and where it says that data is must be a place that containers may see.
Source: docs.docker.com engine/extend/plugins_volume, moby pkg/plugins/client.go.
"""

from __future__ import annotations

import posixpath
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import h11
import msgspec

from sampan.errors import Internal, InvalidArgument, NotFound, Unavailable
from sampan.spec.runtime import Mount

SECONDS: Final = 60.0  # for one call, as Docker's volume plug-ins have two minutes at most
LONGEST: Final = 1 << 20  # bytes of an answer
LIST_SECONDS: Final = 5.0  # for a list, which is for people who wait
_CONTENT: Final = "application/vnd.docker.plugins.v1.2+json"
#: Nothing below these is data of a volume, whoever says so.
_FORBIDDEN: Final = ("/proc", "/sys", "/dev", "/run/sampan", "/run/docker")


class PluginVolume(msgspec.Struct, kw_only=True, rename="pascal"):
    """One volume as a plug-in tells it; fields of other types are an error of the plug-in's."""

    name: str = ""
    mountpoint: str = ""
    created_at: str = ""
    status: dict[str, Any] | None = None


class Answer(msgspec.Struct, kw_only=True, rename="pascal"):
    """Whatever a call of the protocol may answer."""

    err: str = ""
    mountpoint: str = ""
    volume: PluginVolume | None = None
    volumes: list[PluginVolume] | None = None
    capabilities: dict[str, Any] | None = None
    implements: list[str] | None = None


Dial = Callable[[], socket.socket]


class PluginDriver:
    """One plug-in. `dial` connects with it; `forbidden` are more folders that no volume is in."""

    def __init__(
        self, name: str, dial: Dial, forbidden: Sequence[str] = (), seconds: float = SECONDS
    ) -> None:
        self.name, self._dial = name, dial
        self._forbidden = (*_FORBIDDEN, *forbidden)
        self._seconds = seconds
        self._scope = "local"

    @property
    def scope(self) -> str:
        """Return what the plug-in said when it was activated."""
        return self._scope

    def activate(self) -> None:
        """Shake hands; NotFound if it is no plug-in for volumes."""
        if "VolumeDriver" not in (self._call("Plugin.Activate", {}).implements or ()):
            raise NotFound(
                f'plugin "{self.name}" does not implement the requested interface: VolumeDriver'
            )
        try:
            told = self._call("VolumeDriver.Capabilities", {}).capabilities or {}
        except (Internal, NotFound):
            return  # older plug-ins do not know the call
        scope = str(told.get("Scope", "")).lower()
        self._scope = scope if scope in ("local", "global") else "local"

    def check(self, name: str, options: Mapping[str, str]) -> None:
        """Check what would not even reach a plug-in."""
        if not name or "\0" in name or len(name) > 255:
            raise InvalidArgument(f"{name!r} is no name of a volume")

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Have a volume made."""
        self._ask("Create", name, Opts=dict(options))

    def remove(self, name: str) -> None:
        """Have a volume removed."""
        self._ask("Remove", name)

    def path(self, name: str) -> str:
        """Return where the plug-in says that a volume is; "" if it says nothing."""
        return self._ask("Path", name).mountpoint

    def get(self, name: str) -> PluginVolume:
        """Return a volume; NotFound if the plug-in does not have it."""
        try:
            found = self._ask("Get", name).volume
        except Internal as error:
            raise NotFound(f"get {name}: no such volume") from error
        if found is None or found.name != name:
            raise NotFound(f"get {name}: no such volume")
        return found

    def volumes(self) -> list[PluginVolume]:
        """Return all volumes that the plug-in has."""
        answer = self._call("VolumeDriver.List", {}, min(self._seconds, LIST_SECONDS))
        return [each for each in answer.volumes or () if each.name]

    def status(self, name: str) -> dict[str, Any]:
        """Return what the plug-in tells of a volume."""
        return self.get(name).status or {}

    def mount(self, name: str, options: Mapping[str, str], user: str) -> Mount:
        """Have a volume mounted for a container; see VolumeDriver.mount."""
        place = self._ask("Mount", name, ID=user).mountpoint
        try:
            self._check_place(name, place)
        except InvalidArgument:
            self._ask("Unmount", name, ID=user)
            raise
        return Mount(destination="", type="bind", source=place, options=["rbind"])

    def unmount(self, name: str, options: Mapping[str, str], user: str, *, last: bool) -> None:
        """Have a volume unmounted for a container."""
        self._ask("Unmount", name, ID=user)

    def _check_place(self, name: str, place: str) -> None:
        """Refuse a mount point that is none: a plug-in serves data, it does not choose host files.

        Links on the way are refused where the folder is opened.
        """
        is_clean = (
            place.startswith("/") and posixpath.normpath(place) == place and "\0" not in place
        )
        inside = any(
            place == root or place.startswith(f"{root}/") or root.startswith(f"{place}/")
            for root in self._forbidden
        )
        if not is_clean or place == "/" or place.startswith("//") or inside:
            raise InvalidArgument(
                f'plugin "{self.name}" says that volume {name} is at {place!r}, where no volume is'
            )

    def _ask(self, method: str, name: str, **more: Any) -> Answer:
        return self._call(f"VolumeDriver.{method}", {"Name": name, **more})

    def _call(self, method: str, body: Mapping[str, Any], seconds: float | None = None) -> Answer:
        """Call the plug-in; what it says went wrong is raised as Internal."""
        end = time.monotonic() + (seconds or self._seconds)
        with self._dial() as sock:
            try:
                status, content = _exchange(sock, f"/{method}", msgspec.json.encode(body), end)
            except (OSError, h11.RemoteProtocolError) as error:
                raise Unavailable(
                    f"VolumeDriver: the plugin {self.name} did not answer {method}: {error}"
                ) from error
        if status == 404:
            raise NotFound(f"plugin {self.name} does not know {method}")
        try:
            answer = msgspec.json.decode(content or b"{}", type=Answer)
        except msgspec.DecodeError as error:
            if status == 200:
                raise Unavailable(
                    f"VolumeDriver: the plugin {self.name} answered {method} with nonsense: {error}"
                ) from error
            answer = Answer(err=content[:512].decode("utf-8", "replace").strip())
        if status != 200 or answer.err:
            said = answer.err[:4096] or f"status {status}"
            raise Internal(said if status == 200 else f"{method}: {said}")
        return answer


def _exchange(sock: socket.socket, path: str, body: bytes, end: float) -> tuple[int, bytes]:
    """Send one request, and return status and body of its answer, all before `end`."""
    connection = h11.Connection(h11.CLIENT)
    headers = [
        ("Host", "plugin"),
        ("Accept", _CONTENT),
        ("Content-Type", _CONTENT),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    sock.settimeout(_left(end))
    request = connection.send(h11.Request(method="POST", target=path, headers=headers))
    data = connection.send(h11.Data(body))
    last = connection.send(h11.EndOfMessage())
    sock.sendall((request or b"") + (data or b"") + (last or b""))
    status, content = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            sock.settimeout(_left(end))
            connection.receive_data(sock.recv(64 << 10))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > LONGEST:
                raise OSError(f"more than {LONGEST} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return status, bytes(content)


def _left(end: float) -> float:
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("it takes too long")
    return seconds
