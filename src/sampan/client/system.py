"""The daemon itself: who it is, what it uses, what happens."""

from __future__ import annotations

from sampan.client.requests import filters_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from sampan.client.requests import Requests


class System:
    """`client.system`."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def ping(self) -> dict[str, str]:
        """Return the headers of an answer: `api-version`, `ostype`, `server`, …"""
        response = self._client.open("HEAD", "/_ping")
        self._client.finish(response)
        return response.headers

    def version(self) -> dict[str, Any]:
        document: dict[str, Any] = self._client.call("GET", "/version")
        return document

    def info(self) -> dict[str, Any]:
        document: dict[str, Any] = self._client.call("GET", "/info")
        return document

    def auth(self, login: Mapping[str, str]) -> dict[str, Any]:
        """Try a login at a registry (`username`, `password`, `serveraddress`).

        The answer has `Status` and perhaps an `IdentityToken`. Raises Unauthorized.
        """
        answer: dict[str, Any] = self._client.call("POST", "/auth", document=login) or {}
        return answer

    def df(self, verbose: bool = False, kind: str = "") -> dict[str, Any]:
        """Return what images, containers, volumes and the build cache take on disk.

        `kind` (image, container, volume, build-cache) asks for one of them alone.
        """
        query = {"verbose": verbose, "type": kind or None}
        document: dict[str, Any] = self._client.call("GET", "/system/df", query)
        return document

    def check(self, repair: bool = False) -> dict[str, Any]:
        """Have everything the daemon keeps verified, and perhaps repaired; Sampan's own.

        The report has `Problems` (`Kind`, `Object`, `Message`, `Repaired`) and the numbers of
        what was `Checked`.
        """
        report: dict[str, Any] = (
            self._client.call("POST", "/system/check", {"repair": True})
            if repair
            else self._client.call("GET", "/system/check")
        )
        return report

    def events(
        self,
        since: str = "",
        until: str = "",
        filters: Mapping[str, Iterable[str]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield events as they happen, and earlier ones from `since` on."""
        query = {"since": since or None, "until": until or None, "filters": filters_of(filters)}
        return self._client.stream("GET", "/events", query)

    def prune_build_cache(
        self,
        all: bool = False,
        filters: Mapping[str, Iterable[str]] | None = None,
        keep: int = 0,
        max_used: int = 0,
        min_free: int = 0,
    ) -> dict[str, Any]:
        """Remove unused build cache, but `keep` bytes of it.

        `max_used` is how much may stay at most, `min_free` how much of the disk is to be free.
        The answer has `CachesDeleted` and `SpaceReclaimed`.
        """
        query = {
            "all": all,
            "filters": filters_of(filters),
            "keep-storage": keep or None,  # until API 1.47, and understood by all
            "reserved-space": keep or None,
            "max-used-space": max_used or None,
            "min-free-space": min_free or None,
        }
        answer: dict[str, Any] = self._client.call("POST", "/build/prune", query)
        return answer
