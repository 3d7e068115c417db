"""What lies in registries, asked through the daemon; all but `inspect` is Sampan's own."""

from __future__ import annotations

from sampan.client.requests import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.client.requests import Requests

MANIFEST_BYTES = 4 << 20  # the most that registries take


class Distribution:
    """`client.distribution`; `authorization` is the X-Registry-Auth header, or empty."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def inspect(self, name: str, authorization: str = "") -> dict[str, Any]:
        """Return `Descriptor` and `Platforms` of what a name stands for."""
        document: dict[str, Any] = self._client.call(
            "GET", f"/distribution/{quoted(name)}/json", headers=_login(authorization)
        )
        return document

    def manifest(self, name: str, authorization: str = "") -> tuple[str, bytes]:
        """Return media type and bytes of a manifest or index."""
        response = self._client.open(
            "GET", f"/distribution/{quoted(name)}/manifests", headers=_login(authorization)
        )
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        return kind, self._client.finish(response, MANIFEST_BYTES)

    def put_manifest(
        self, repository: str, media_type: str, content: bytes, tag: str = "", login: str = ""
    ) -> None:
        """Store a manifest or index, under a tag or under its digest alone."""
        headers = {"Content-Type": media_type, **_login(login)}
        path = f"/distribution/{quoted(repository)}/manifests"
        self._client.finish(self._client.open("PUT", path, {"tag": tag or None}, content, headers))

    def mount_blob(self, repository: str, digest: str, source: str, login: str = "") -> None:
        """Make a blob of the repository `source` one of `repository`, at the same registry.

        Raises NotFound if the registry does not do that.
        """
        path = f"/distribution/{quoted(repository)}/blobs"
        self._client.call("POST", path, {"digest": digest, "from": source}, headers=_login(login))


def _login(authorization: str) -> dict[str, str]:
    return {"X-Registry-Auth": authorization} if authorization else {}
