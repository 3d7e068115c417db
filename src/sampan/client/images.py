"""Images of the API: local ones, and their ways from and to registries."""

from __future__ import annotations

from sampan.client import documents
from sampan.client.requests import filters_of, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from sampan.client.connection import Response
    from sampan.client.requests import Requests

    Documents = list[dict[str, Any]]


class Images:
    """`client.images`; an image is named by reference, id, or unique prefix of an id."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def list(
        self,
        all: bool = False,
        filters: Mapping[str, Iterable[str]] | None = None,
        manifests: bool = False,
    ) -> Documents:
        """List images; with `manifests` each has those of its platforms in `Manifests`."""
        query = {"all": all, "filters": filters_of(filters), "manifests": manifests}
        found: Documents = self._client.call("GET", "/images/json", query)
        return found

    def inspect(self, image: str, platform: str = "") -> dict[str, Any]:
        document: dict[str, Any] = self._client.call(
            "GET", f"/images/{quoted(image)}/json", {"platform": platform_json(platform)}
        )
        return document

    def history(self, image: str, platform: str = "") -> Documents:
        layers: Documents = self._client.call(
            "GET", f"/images/{quoted(image)}/history", {"platform": platform_json(platform)}
        )
        return layers

    def tag(self, image: str, repository: str, tag: str = "") -> None:
        query = {"repo": repository, "tag": tag or None}
        self._client.call("POST", f"/images/{quoted(image)}/tag", query)

    def remove(
        self,
        image: str,
        force: bool = False,
        prune: bool = True,
        platforms: Iterable[str] = (),
    ) -> Documents:
        """Untag or delete; the answer lists what was `Untagged` and `Deleted`."""
        query = {
            "force": force,
            "noprune": not prune,
            "platforms": [platform_json(name) for name in platforms],
        }
        done: Documents = self._client.call("DELETE", f"/images/{quoted(image)}", query)
        return done

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> dict[str, Any]:
        """Remove unused images; the answer has `ImagesDeleted` and `SpaceReclaimed`."""
        answer: dict[str, Any] = self._client.call(
            "POST", "/images/prune", {"filters": filters_of(filters)}
        )
        return answer

    def save(self, images: Iterable[str], platforms: Iterable[str] = ()) -> Response:
        """Open the images as one tar."""
        query = {
            "names": [*images],
            "platform": [platform_json(name) for name in platforms],
        }
        return self._client.open("GET", "/images/get", query)

    def load(
        self, archive: Iterable[bytes], quiet: bool = False, platforms: Iterable[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Load a tar made by `save`; yields messages."""
        query = {
            "quiet": 1 if quiet else 0,
            "platform": [platform_json(name) for name in platforms],
        }
        headers = {"Content-Type": "application/x-tar"}
        return self._client.stream("POST", "/images/load", query, archive, headers)

    def import_(
        self,
        source: str,
        archive: Iterable[bytes] | None = None,
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Iterable[str] = (),
        platform: str = "",
    ) -> Iterator[dict[str, Any]]:
        """Make an image of a root file system's tar (`source` "-") or URL; yields messages."""
        query = {
            "fromSrc": source,
            "repo": repository or None,
            "tag": tag or None,
            "message": message or None,
            "changes": [*changes],
            "platform": platform.lower() or None,
        }
        headers = {"Content-Type": "application/x-tar"} if archive is not None else None
        return self._client.stream("POST", "/images/create", query, archive, headers)

    def build(
        self,
        query: Mapping[str, object],
        context: Iterable[bytes] | None,
        logins: str = "",
    ) -> Iterator[dict[str, Any]]:
        """Build an image of a tar (or of `remote` in the query); yields messages.

        `query` has the API's names; `logins` is what X-Registry-Config says.
        """
        headers = {"Content-Type": "application/x-tar"}
        if logins:
            headers["X-Registry-Config"] = logins
        return self._client.stream("POST", "/build", query, context or [], headers)

    def ask_about(
        self, question: str, query: Mapping[str, object], context: Iterable[bytes]
    ) -> dict[str, str]:
        """Ask about the Dockerfile of a context: lint, outline, targets, subrequests.describe.

        The answer is BuildKit's: `result.json`, `result.txt`, `result.statuscode`. Not Docker's.
        """
        headers = {"Content-Type": "application/x-tar"}
        asked = {**query, "call": question}
        response = self._client.open("POST", "/build/call", asked, context, headers)
        try:
            answer: dict[str, str] = documents.decode(response.read())
        finally:
            response.close()
        return answer

    def pull(
        self, repository: str, tag: str, platform: str = "", authorization: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Fetch an image from its registry; yields messages. `tag` may be a digest."""
        query = {
            "fromImage": repository,
            "tag": tag or None,
            "platform": platform.lower() or None,
        }
        return self._client.stream(
            "POST", "/images/create", query, None, _login_header(authorization)
        )

    def push(
        self, repository: str, tag: str = "", platform: str = "", authorization: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Send an image to its registry; yields messages. Without `tag` all tags are sent."""
        query = {"tag": tag or None, "platform": platform_json(platform)}
        return self._client.stream(
            "POST", f"/images/{quoted(repository)}/push", query, None, _login_header(authorization)
        )

    def search(
        self,
        term: str,
        limit: int = 0,
        filters: Mapping[str, Iterable[str]] | None = None,
        authorization: str = "",
    ) -> Documents:
        """Find images in the registry that the term names, or on Docker Hub."""
        query = {"term": term, "limit": limit or None, "filters": filters_of(filters)}
        found: Documents = self._client.call(
            "GET", "/images/search", query, headers=_login_header(authorization)
        )
        return found


def platform_json(platform: str) -> str | None:
    """Format a platform, `os[/arch[/variant]]`, as the API's JSON document; None if it is empty.

    Raises InvalidArgument for what is no platform.
    """
    if not platform:
        return None
    from sampan.spec.platform import Platform

    parsed = Platform.parse(platform)
    fields = {
        "architecture": parsed.architecture,
        "os": parsed.os,
        "os.version": parsed.os_version,
        "variant": parsed.variant,
    }
    return documents.encode({name: value for name, value in fields.items() if value}).decode()


def _login_header(authorization: str) -> dict[str, str]:
    return {"X-Registry-Auth": authorization} if authorization else {}
