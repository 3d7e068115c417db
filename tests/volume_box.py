"""Containers with volumes on a real daemon, for tests: run one, read what it printed."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.daemon import Answer, Daemon
from tests.session import containers, unique


class Box:
    """One daemon, as a test of volumes sees it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        daemon.import_image()

    def create(self, *command: str, config: Any = None, name: str = "", **host: Any) -> Answer:
        """Ask for a container; `host` is its HostConfig."""
        host = {"NetworkMode": "none", "LogConfig": {"Type": "json-file"}, **host}
        body = {"Image": "busybox", "Cmd": list(command), "HostConfig": host, **(config or {})}
        answer = self.daemon.request("POST", f"/containers/create?name={name or unique()}", body)
        if answer.status == 201:
            containers.add(answer.json["Id"])
        return answer

    def made(self, *command: str, **more: Any) -> str:
        """Make a container and return its id."""
        answer = self.create(*command, **more)
        assert answer.status == 201, answer.body
        return str(answer.json["Id"])

    def start(self, container: str) -> Answer:
        """Start a container."""
        return self.daemon.request("POST", f"/containers/{container}/start")

    def started(self, *command: str, **more: Any) -> str:
        """Make and start a container."""
        container = self.made(*command, **more)
        answer = self.start(container)
        assert answer.status == 204, answer.body
        return container

    def run(self, *command: str, **more: Any) -> str:
        """Run a shell command to its end, and return what it printed; the container stays."""
        self.last = self.started("sh", "-c", *command, **more)
        return self.output(self.last)

    def output(self, container: str) -> str:
        """Wait for the end of a container and return what it printed."""
        self.daemon.request("POST", f"/containers/{container}/wait")
        path = f"/containers/{container}/logs?stdout=1&stderr=1"
        frames, text = self.daemon.request("GET", path).body, b""
        while frames:
            size = int.from_bytes(frames[4:8], "big")
            text, frames = text + frames[8 : 8 + size], frames[8 + size :]
        return text.decode()

    def inspect(self, container: str) -> Any:
        """Return everything about a container."""
        return self.daemon.request("GET", f"/containers/{container}/json").json

    def mounts(self, container: str) -> dict[str, Any]:
        """Return its mounts by destination."""
        return {it["Destination"]: it for it in self.inspect(container)["Mounts"]}

    def remove(self, container: str, query: str = "?force=1") -> None:
        """Remove a container."""
        answer = self.daemon.request("DELETE", f"/containers/{container}{query}")
        assert answer.status == 204, answer.body

    def volume(self, name: str = "", driver: str = "", **options: str) -> str:
        """Make a volume, and return its name."""
        body = {"Name": name, "Driver": driver, "DriverOpts": options or None}
        answer = self.daemon.request("POST", "/volumes/create", body)
        assert answer.status == 201, answer.body
        return str(answer.json["Name"])

    def volumes(self, **filters: list[str]) -> list[str]:
        """Return the names of volumes."""
        path = f"/volumes?filters={quote(json.dumps(filters))}"
        return [each["Name"] for each in self.daemon.request("GET", path).json["Volumes"]]

    def put(self, container: str, folder: str, name: str, content: bytes) -> Answer:
        """Copy a file into a container."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        path = f"/containers/{container}/archive?path={quote(folder)}"
        headers = {"Content-Type": "application/x-tar"}
        return self.daemon.request("PUT", path, buffer.getvalue(), headers)

    def get(self, container: str, path: str) -> dict[str, bytes]:
        """Copy out of a container: files by name."""
        answer = self.daemon.request("GET", f"/containers/{container}/archive?path={quote(path)}")
        assert answer.status == 200, answer.body
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            return {
                member.name: file.read() if (file := tar.extractfile(member)) else b""
                for member in tar
            }

    def clear(self) -> None:
        """Remove all containers and volumes."""
        self.daemon.remove_containers()
        self.daemon.remove_volumes()

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Fail if what is done inside leaves a container or a volume."""

        def state() -> tuple[list[str], list[str]]:
            listed = self.daemon.request("GET", "/containers/json?all=1").json
            return sorted(it["Id"] for it in listed), sorted(self.volumes())

        before = state()
        yield
        assert state() == before
