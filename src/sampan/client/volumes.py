"""Volumes of the API."""

from __future__ import annotations

from sampan.client.requests import filters_of, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from sampan.client.requests import Requests


class Volumes:
    """`client.volumes`; a volume is named by its name."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> dict[str, Any]:
        """Return `Volumes` and `Warnings`."""
        answer: dict[str, Any] = self._client.call(
            "GET", "/volumes", {"filters": filters_of(filters)}
        )
        return answer

    def create(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Make a volume and return it; one of that name is returned as it is."""
        answer: dict[str, Any] = self._client.call("POST", "/volumes/create", None, document)
        return answer

    def update(self, volume: str, version: int, document: Mapping[str, Any]) -> None:
        """Change a cluster volume."""
        self._client.call("PUT", f"/volumes/{quoted(volume)}", {"version": version}, document)

    def remove(self, volume: str, force: bool = False) -> None:
        """Remove a volume that no container has."""
        self._client.call("DELETE", f"/volumes/{quoted(volume)}", {"force": force})

    def inspect(self, volume: str) -> dict[str, Any]:
        document: dict[str, Any] = self._client.call("GET", f"/volumes/{quoted(volume)}")
        return document

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> dict[str, Any]:
        """Remove unused volumes; the answer has `VolumesDeleted` and `SpaceReclaimed`."""
        answer: dict[str, Any] = self._client.call(
            "POST", "/volumes/prune", {"filters": filters_of(filters)}
        )
        return answer
