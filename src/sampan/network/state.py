"""What the plumber remembers across its own restarts: one small file per network and endpoint.

The files lie on a tmpfs (the run root): after a reboot there are neither files nor interfaces.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from sampan.network.plumber import Endpoint, NetworkSpec, PlugSpec, ResolverSpec

log = logging.getLogger(__name__)
S = TypeVar("S", bound=msgspec.Struct)


class Forwarding(msgspec.Struct, kw_only=True):
    """The host did not forward packets before us; `uplinks` had addresses of that family then."""

    uplinks: list[str] = []
    uplinks6: list[str] = []


class Plugged(msgspec.Struct, kw_only=True):
    """What a user has plugged, with the indexes of the interfaces that were made for it."""

    plug: PlugSpec
    outer: int = 0
    inner: int = 0
    peer: int = 0


class State:
    """The records below a folder; with None nothing is kept (as a library, in tests)."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        for kind in ("networks", "endpoints", "resolvers", "plugs") if folder else ():
            place = self._path(kind, "").parent
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for unfinished in place.glob("*.new"):  # of one that was killed
                unfinished.unlink()

    @property
    def is_kept(self) -> bool:
        """Whether a successor can find anything."""
        return self._folder is not None

    def networks(self) -> list[NetworkSpec]:
        """Return the networks."""
        return self._all("networks", NetworkSpec)  # type: ignore[arg-type]

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints."""
        return self._all("endpoints", Endpoint)

    def resolvers(self) -> list[ResolverSpec]:
        """Return how containers find names."""
        return self._all("resolvers", ResolverSpec)

    def plugs(self) -> list[Plugged]:
        """Return what users have plugged."""
        return self._all("plugs", Plugged)

    def forwarding(self) -> Forwarding | None:
        """Return what was noted when forwarding was switched on, None if it was on."""
        return self._read(self._path("", "forwarding"), Forwarding) if self._folder else None

    def keep(self, record: NetworkSpec | Endpoint | ResolverSpec | Plugged | Forwarding) -> None:
        """Write a record; readers see the old one or the new one."""
        if not self._folder:
            return
        if isinstance(record, NetworkSpec):
            path = self._path("networks", record.network_id)
        elif isinstance(record, Endpoint):
            path = self._path("endpoints", record.endpoint.endpoint_id)
        elif isinstance(record, ResolverSpec):
            path = self._path("resolvers", record.container_id)
        elif isinstance(record, Plugged):
            path = self._path("plugs", record.plug.plug_id)
        else:
            path = self._path("", "forwarding")
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(record))
        os.replace(new, path)

    def forget(self, kind: str, id: str) -> None:
        """Remove a record of `networks`, `endpoints`, `resolvers` or `plugs`; it need not exist."""
        if self._folder:
            with suppress(FileNotFoundError):
                self._path(kind, id).unlink()

    def _path(self, kind: str, id: str) -> Path:
        assert self._folder is not None
        return self._folder / kind / f"{id}.json"

    def _all(self, kind: str, type: type[S]) -> list[S]:
        if not self._folder:
            return []
        found = (self._read(path, type) for path in sorted((self._folder / kind).glob("*.json")))
        return [record for record in found if record is not None]

    def _read(self, path: Path, type: type[S]) -> S | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=type)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            log.warning("%s is not readable and ignored: %s", path, error)
            return None
