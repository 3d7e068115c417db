"""Containers of the API: life cycle, streams, files."""

from __future__ import annotations

from sampan.client import documents
from sampan.client.requests import filters_of, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from sampan.client.connection import Connection, Response
    from sampan.client.requests import Requests

    Documents = list[dict[str, Any]]


def _path(container: str, verb: str = "") -> str:
    name = container.lstrip("/")
    if not name:
        from sampan.errors import InvalidArgument

        raise InvalidArgument("invalid container name or ID: value is empty")
    return f"/containers/{quoted(name)}{verb}"


class Containers:
    """`client.containers`; a container is named by id, unique prefix of an id, or name."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def list(
        self,
        all: bool = False,
        limit: int | None = None,
        size: bool = False,
        filters: Mapping[str, Iterable[str]] | None = None,
    ) -> Documents:
        """Return the summaries of running containers; of `all`, or the `limit` newest."""
        query = {"all": all, "limit": limit, "size": size, "filters": filters_of(filters)}
        found: Documents = self._client.call("GET", "/containers/json", query)
        return found

    def create(
        self, configuration: Mapping[str, object], name: str = "", platform: str = ""
    ) -> dict[str, Any]:
        """Create a container; the answer has `Id` and `Warnings`. Raises NotFound for its image."""
        query = {"name": name or None, "platform": platform or None}
        answer: dict[str, Any] = self._client.call(
            "POST", "/containers/create", query, configuration
        )
        return answer

    def inspect(self, container: str, size: bool = False) -> dict[str, Any]:
        document: dict[str, Any] = self._client.call(
            "GET", _path(container, "/json"), {"size": size}
        )
        return document

    def start(self, container: str, checkpoint: str = "", checkpoint_dir: str = "") -> None:
        """Start a container; one that runs is left alone."""
        query = {"checkpoint": checkpoint or None, "checkpoint-dir": checkpoint_dir or None}
        self._post(container, "/start", **query)

    def stop(self, container: str, signal: str = "", timeout: int | None = None) -> None:
        """Stop a container; after `timeout` seconds (-1: never) it is killed."""
        self._post(container, "/stop", signal=signal or None, t=timeout)

    def restart(self, container: str, signal: str = "", timeout: int | None = None) -> None:
        self._post(container, "/restart", signal=signal or None, t=timeout)

    def kill(self, container: str, signal: str = "") -> None:
        """Send a signal (name or number; KILL if empty) to the first process."""
        self._post(container, "/kill", signal=signal or None)

    def pause(self, container: str) -> None:
        self._post(container, "/pause")

    def unpause(self, container: str) -> None:
        self._post(container, "/unpause")

    def rename(self, container: str, new_name: str) -> None:
        self._post(container, "/rename", name=new_name)

    def resize(self, container: str, height: int, width: int) -> None:
        """Set the size of the terminal, in characters."""
        self._post(container, "/resize", h=height, w=width)

    def _post(self, container: str, verb: str, **query: object) -> None:
        from sampan.errors import NotModified

        try:
            self._client.call("POST", _path(container, verb), query)
        except NotModified:
            pass  # it is already as the caller wants it

    def update(self, container: str, changes: Mapping[str, object]) -> dict[str, Any]:
        """Change resource limits and the restart policy; the answer has `Warnings`."""
        answer: dict[str, Any] = self._client.call(
            "POST", _path(container, "/update"), document=changes
        )
        return answer

    def remove(
        self, container: str, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        query = {"force": force, "v": volumes, "link": link}
        self._client.call("DELETE", _path(container), query)

    def wait(self, container: str, condition: str = "") -> Waiting:
        """Begin to wait for the end (`not-running`, `next-exit`, `removed`).

        The daemon has the wait registered when this returns.
        """
        query = {"condition": condition or None}
        return Waiting(self._client.open("POST", _path(container, "/wait"), query))

    def top(self, container: str, arguments: Iterable[str] = ()) -> dict[str, Any]:
        """List the processes; the answer has `Titles` and `Processes`."""
        query = {"ps_args": " ".join(arguments) or None}
        answer: dict[str, Any] = self._client.call("GET", _path(container, "/top"), query)
        return answer

    def logs(
        self,
        container: str,
        follow: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        tail: str = "all",
        details: bool = False,
    ) -> Response:
        """Open the log; frames of stdout and stderr, or raw bytes if it has a terminal."""
        query = {
            "stdout": stdout,
            "stderr": stderr,
            "follow": follow,
            "since": since or None,
            "until": until or None,
            "timestamps": timestamps,
            "details": details,
            "tail": tail,
        }
        return self._client.open("GET", _path(container, "/logs"), query)

    def attach(
        self,
        container: str,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> Connection:
        """Take part in the container's streams; the caller closes the connection."""
        query = {
            "stream": True,
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "logs": logs,
            "detachKeys": detach_keys or None,
        }
        return self._client.hijack(_path(container, "/attach"), query)

    def stats(self, container: str, stream: bool = True) -> Iterator[dict[str, Any]]:
        """Yield samples of resource use, one per second, or one with its predecessor."""
        query = {"stream": 1 if stream else 0}
        return self._client.stream("GET", _path(container, "/stats"), query)

    def changes(self, container: str) -> Documents:
        """List the changed paths: Kind 0 changed, 1 added, 2 deleted."""
        changed: Documents | None = self._client.call("GET", _path(container, "/changes"))
        return changed or []

    def export(self, container: str) -> Response:
        """Open the file system as a tar."""
        return self._client.open("GET", _path(container, "/export"))

    def commit(
        self,
        container: str,
        repository: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Iterable[str] = (),
    ) -> str:
        """Make an image of a container and return its id."""
        query = {
            "container": container,
            "repo": repository or None,
            "tag": tag or None,
            "comment": comment or None,
            "author": author or None,
            "pause": 1 if pause else 0,
            "changes": [*changes],
        }
        return str(self._client.call("POST", "/commit", query, {})["Id"])

    def stat_path(self, container: str, path: str) -> dict[str, Any]:
        """Describe a path inside: name, size, mode (Go's bits), mtime, linkTarget."""
        response = self._client.open("HEAD", _path(container, "/archive"), {"path": path})
        stat = stat_of(response)
        self._client.finish(response)
        return stat

    def get_archive(self, container: str, path: str) -> tuple[dict[str, Any], Response]:
        """Open a path inside as a tar, with its description."""
        response = self._client.open("GET", _path(container, "/archive"), {"path": path})
        return stat_of(response), response

    def put_archive(
        self,
        container: str,
        path: str,
        archive: bytes | Iterable[bytes],
        overwrite: bool = False,
        keep_owner: bool = False,
    ) -> None:
        """Unpack a tar below `path`; a directory never replaces a file unless `overwrite`."""
        query = {
            "path": path,
            "noOverwriteDirNonDir": None if overwrite else "true",
            "copyUIDGID": "true" if keep_owner else None,
        }
        headers = {"Content-Type": "application/x-tar"}
        self._client.finish(
            self._client.open("PUT", _path(container, "/archive"), query, archive, headers)
        )

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> dict[str, Any]:
        """Remove stopped containers; the answer has `ContainersDeleted`, `SpaceReclaimed`."""
        answer: dict[str, Any] = self._client.call(
            "POST", "/containers/prune", {"filters": filters_of(filters)}
        )
        return answer

    def exec(self, container: str, configuration: Mapping[str, object]) -> str:
        """Prepare another process and return the exec's id; `client.execs` starts it."""
        answer = self._client.call("POST", _path(container, "/exec"), document=configuration)
        return str(answer["Id"])


class Waiting:
    """A wait that the daemon has registered."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the answer comes."""
        return self._response.connection.sock.fileno()

    def result(self) -> dict[str, Any]:
        """Wait for the answer: `StatusCode`, and `Error` with a `Message` if waiting failed."""
        try:
            document: dict[str, Any] = documents.decode(self._response.read())
        finally:
            self._response.close()
        return document

    def close(self) -> None:
        self._response.close()


def stat_of(response: Response) -> dict[str, Any]:
    """Decode the header that describes a path."""
    import base64

    encoded = response.headers.get("x-docker-container-path-stat", "")
    stat: dict[str, Any] = documents.decode(base64.b64decode(encoded))
    return stat
