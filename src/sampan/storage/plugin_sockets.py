"""Where plug-ins are found: sockets, and files that say where a socket is.

Source: docs.docker.com engine/extend/plugin_api, moby pkg/plugins/discovery.go.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from sampan.rpc import Fd
from sampan.storage.volume_keeper import PluginSocket

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
SOCKETS: Final = (Path("/run/sampan/plugins"), Path("/run/docker/plugins"))
SPECIFICATIONS: Final = (
    *(Path("/etc/sampan/plugins"), Path("/usr/lib/sampan/plugins")),
    *(Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins")),
)
_LONGEST: Final = 64 << 10  # bytes of a specification file
_SECONDS: Final = 5.0  # to connect: a plug-in whose queue is full makes callers wait


class PluginSockets:
    """The plug-ins of this host; those in `run_root`/plugins come first."""

    def __init__(self, run_root: Path | None = None) -> None:
        own = (run_root / "plugins",) if run_root else ()
        self._sockets = (*own, *(path for path in SOCKETS if path not in own))
        self._specifications = (*own, *SPECIFICATIONS)

    def names(self) -> list[str]:
        """Return the names of all plug-ins that are announced."""
        found = set()
        for folder in dict.fromkeys((*self._sockets, *self._specifications)):
            with suppress(OSError):
                for entry in os.listdir(folder):
                    name, _, kind = entry.rpartition(".")
                    if kind not in ("sock", "spec", "json"):
                        name = entry if (folder / entry / f"{entry}.sock").exists() else ""
                    if NAME.fullmatch(name):
                        found.add(name)
        return sorted(found)

    def dial(self, name: str) -> PluginSocket:
        """Return a connection with a plug-in, or its address; NotFound, Unavailable."""
        if not NAME.fullmatch(name) or len(name) > 128:
            raise NotFound(f'plugin "{name}" not found')
        for path in self._candidates(name):
            with suppress(OSError):
                if stat.S_ISSOCK(path.stat().st_mode):
                    return PluginSocket(sock=Fd(_connected(path, name)))
        address = self._specified(name)
        if address is None:
            raise NotFound(f'plugin "{name}" not found')
        scheme, _, rest = address.partition("://")
        if scheme == "unix" and rest.startswith("/"):
            return PluginSocket(sock=Fd(_connected(Path(rest), name)))
        if scheme in ("tcp", "http") and rest:
            return PluginSocket(address=f"tcp://{rest.rstrip('/')}")
        raise Unsupported(f'plugin "{name}": its address {address!r} is neither unix:// nor tcp://')

    def _candidates(self, name: str) -> Iterator[Path]:
        for folder in self._sockets:
            yield folder / f"{name}.sock"
            yield folder / name / f"{name}.sock"

    def _specified(self, name: str) -> str | None:
        for folder in self._specifications:
            for kind in ("spec", "json"):
                with suppress(OSError):
                    with open(folder / f"{name}.{kind}", "rb") as file:
                        content = file.read(_LONGEST)
                    return _address(name, kind, content)
        return None


def _address(name: str, kind: str, content: bytes) -> str:
    """Return the address in a file: all of it, or `Addr` of its JSON."""
    try:
        if kind == "spec":
            return content.decode("ascii").strip()
        document = json.loads(content)
        if document.get("TLSConfig"):
            raise Unsupported(f'plugin "{name}": TLS is not supported, use a Unix socket')
        return str(document["Addr"])
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidArgument(f'plugin "{name}": its specification cannot be read') from error


def _connected(path: Path, name: str) -> int:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(_SECONDS)
        sock.connect(str(path))
        sock.settimeout(None)
    except OSError as error:
        sock.close()
        reason = error.strerror or "timed out"
        raise Unavailable(f'plugin "{name}" does not answer at {path}: {reason}') from error
    return sock.detach()
