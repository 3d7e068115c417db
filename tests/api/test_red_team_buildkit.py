"""A hostile client of BuildKit's API: front ends, messages and repositories that mean harm.

Every row of docs/explanation/security.md names its test.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError, StreamTerminatedError

from sampan.spec.buildkit import control_pb2, gateway_pb2
from tests import buildkit
from tests.buildkit import Folders
from tests.daemon import Daemon
from tests.session import eventually
from tests.wire import LOOPBACK, Server, Site

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
METHODS = [
    *(f"/moby.buildkit.v1.Control/{name}" for name in
      ("Info", "ListWorkers", "Solve", "Status", "Session", "DiskUsage", "Prune", "None")),
    *(f"/moby.buildkit.v1.frontend.LLBBridge/{name}" for name in
      ("Ping", "Solve", "Evaluate", "Inputs", "Return", "ReadFile", "NewContainer", "Warn")),
]  # fmt: skip


def solve(daemon: Daemon, folder: Path, **fields: Any) -> str:
    """Ask for a build; return why it is refused."""

    async def ask() -> str:
        served = Folders({"context": folder, "dockerfile": folder})
        async with (
            buildkit.session(daemon.socket, served) as known,
            buildkit.client(daemon.socket) as one,
        ):
            request = control_pb2.SolveRequest(Session=known, **{"Ref": "hostile", **fields})
            try:
                await one.control("Solve", request, control_pb2.SolveResponse)
            except GRPCError as error:
                return error.message or ""
        return ""

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "fields",
    [
        {"Frontend": "gateway.v0", "FrontendAttrs": {"source": "evil/frontend"}},
        {"Frontend": "gateway.v0", "FrontendAttrs": {"source": "docker/dockerfile:1@../x"}},
        {"Frontend": "../../evil"},
        {"Frontend": "dockerfile.v0", "FrontendAttrs": {"filename": "../../../../../etc/passwd"}},
        {"Frontend": "dockerfile.v0", "FrontendAttrs": {"contextkey": "../../x", "filename": "x"}},
    ],
)
def test_cve_2024_23650_no_front_end_of_a_stranger_runs(
    daemon: Daemon, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """Front ends, which anybody may name in a Dockerfile, could end BuildKit's daemon."""
    said = solve(daemon, tmp_path, Ref=str(fields), **fields)
    assert "only dockerfile.v0 is there" in said or "failed to read dockerfile" in said
    assert "root:" not in said


def test_cve_2024_23650_a_dockerfile_cannot_choose_another_front_end(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("# syntax=evil/frontend\nFROM busybox\nRUN echo built\n")
    made = asyncio.run(buildkit.build(daemon.socket, Folders(
        {"context": tmp_path, "dockerfile": tmp_path})))  # fmt: skip
    assert b"built\n" in made.logs or made.cached


def test_cve_2026_33747_messages_of_any_content_are_survived(daemon: Daemon) -> None:
    """A front end's messages made BuildKit write outside of its folder, or end."""
    chance = random.Random(33747)

    names = (b"../../../../etc/evil", b"/etc/evil", b"\0", b"%s" * 50, b"x" * 4000)
    contents = [*names, *(chance.randbytes(length) for length in range(1, 200, 20))]

    async def throw(one: buildkit.Client, method: str, data: bytes) -> None:
        message = control_pb2.BytesMessage(data=data)
        # An AssertionError is a method's that may answer with nothing.
        with contextlib.suppress(GRPCError, StreamTerminatedError, TimeoutError, AssertionError):
            async with asyncio.timeout(7):
                await one.call(method, message, gateway_pb2.PongResponse, "../../evil")

    async def throw_all() -> None:
        async with buildkit.client(daemon.socket) as one:
            await asyncio.gather(
                *(throw(one, method, data) for method in METHODS for data in contents)
            )

    before, parts, told = set(daemon.processes()), daemon.parts(), len(daemon.log)
    asyncio.run(throw_all())
    assert daemon.request("GET", "/_ping").status == 200
    assert daemon.parts() == parts
    eventually(lambda: set(daemon.processes()) <= before)
    assert not Path("/etc/evil").exists()
    assert "Traceback" not in daemon.log[told:]  # others share the daemon


@pytest.fixture
def repository(daemon: Daemon, tmp_path: Path) -> Iterator[str]:
    """Serve a repository with links and names that lead out; give its address."""
    source = tmp_path / "source"
    source.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    (source / "out").symlink_to("/etc")
    (source / "up").symlink_to("../../../../../../../../etc")
    (source / "real").mkdir()
    (source / "real" / "f").write_text("inside\n")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, tmp_path / "x.git"], check=True)
    subprocess.run(["git", "-C", tmp_path / "x.git", "update-server-info"], check=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = Server(Site(daemon.namespace, LOOPBACK), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{server.site.url}/x.git"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "folder", ["out", "up", "out/passwd", "../../../etc", "real/../../etc", "real/../out"]
)
def test_cve_2026_33748_a_folder_of_a_repository_leads_nowhere_else(
    daemon: Daemon, tmp_path: Path, repository: str, folder: str
) -> None:
    """`#ref:subdir` with links in it gave files of the host to BuildKit's clients."""
    place = tmp_path / "recipe"
    place.mkdir()
    (place / "Dockerfile").write_text(
        f"FROM busybox\nADD {repository}#main:{folder} /got\nRUN find /got; cat /got/* /got\n"
    )
    served = Folders({"context": place, "dockerfile": place})
    with pytest.raises(GRPCError) as raised:
        asyncio.run(buildkit.build(daemon.socket, served))
    assert "root:" not in str(raised.value)
    assert "git archive" in str(raised.value)


def test_cve_2026_33748_a_folder_that_is_there_is_given(
    daemon: Daemon, tmp_path: Path, repository: str
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM busybox\nADD {repository}#main:real/../real /got\nRUN cat /got/f\n"
    )
    served = Folders({"context": tmp_path, "dockerfile": tmp_path})
    assert b"inside\n" in asyncio.run(buildkit.build(daemon.socket, served)).logs
