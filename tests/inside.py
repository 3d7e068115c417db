"""Containers of a daemon under test, by the API alone, and what their programs saw."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sampan.client.frames import STDOUT, Frames
from tests.daemon import Daemon

CONFIG = ("User", "Hostname", "Domainname", "Env", "WorkingDir", "StopSignal", "Tty", "Image")


@dataclass(frozen=True)
class Seen:
    """What a program wrote, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of its standard output."""
        return self.out.splitlines()


def body(script: str, **fields: Any) -> dict[str, Any]:
    """Return a request of a container that runs a shell script; `fields` by Docker's names."""
    config = {name: fields.pop(name) for name in CONFIG if name in fields}
    command = ["sh", "-c", script]
    return {"Image": "busybox", "Cmd": command, **config, "HostConfig": fields}


def create(daemon: Daemon, script: str, name: str = "", **fields: Any) -> str:
    """Make a container and return its id."""
    answer = daemon.request("POST", f"/containers/create?name={name}", body(script, **fields))
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


@contextlib.contextmanager
def started(daemon: Daemon, script: str, name: str = "", **fields: Any) -> Iterator[str]:
    """Start a container; it is removed at the end."""
    container = create(daemon, script, name, **fields)
    try:
        answer = daemon.request("POST", f"/containers/{container}/start")
        assert answer.status == 204, answer.body
        yield container
    finally:
        daemon.request("DELETE", f"/containers/{container}?force=1&v=1")


def run(daemon: Daemon, script: str, **fields: Any) -> Seen:
    """Run a script in a container of its own, to its end."""
    with started(daemon, script, **fields) as container:
        code = daemon.request("POST", f"/containers/{container}/wait").json["StatusCode"]
        logs = daemon.request("GET", f"/containers/{container}/logs?stdout=1&stderr=1").body
        return _seen(code, logs)


def execute(daemon: Daemon, container: str, script: str, **fields: Any) -> Seen:
    """Run a script in a running container, to its end."""
    wanted = {"Cmd": ["sh", "-c", script], "AttachStdout": True, "AttachStderr": True, **fields}
    made = daemon.request("POST", f"/containers/{container}/exec", wanted)
    assert made.status == 201, made.body
    path = f"/exec/{made.json['Id']}"
    output = daemon.request("POST", f"{path}/start", {}).body
    return _seen(daemon.request("GET", f"{path}/json").json["ExitCode"], output)


def _seen(code: int, output: bytes) -> Seen:
    parts = {True: b"", False: b""}
    for stream, data in Frames().feed(output):
        parts[stream == STDOUT] += data
    out, err = (parts[which].decode(errors="replace") for which in (True, False))
    return Seen(code, out, err)
