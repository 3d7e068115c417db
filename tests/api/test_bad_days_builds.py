"""Bad days of builds: daemons that are killed and clients that go at every point, full disks.

After each: no half image, no container, mount or descriptor is left, the cache is sound, and the
next build goes on from what was complete. The points are those that a build tells of.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError, StreamTerminatedError

from sampan.spec.buildkit import control_pb2 as pb
from tests import buildkit, ordeals
from tests.buildkit import Folders
from tests.daemon import Daemon, running
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
RECIPE = (
    "FROM busybox AS base\nCOPY large /large\nRUN --mount=from=named,target=/n cat /n/f >/named\n"
    "RUN i=0; while [ $i -lt 100 ]; do echo $i; sleep 1000 & i=$((i+1)); done; echo end >/end\n"
    "FROM base\nCOPY --from=base /end /copied\nENV A=b\n"
)
# How a build goes: names of vertices, the completion of some, and output.
POINTS = [
    "load build definition",
    "load build context",
    "FROM docker.io/library/busybox",
    "COPY large",
    "[context named] load from client",
    "RUN --mount",
    "99",
    "completed RUN i=0",
    "COPY --from=base",
    "exporting to image",
    "writing image",
    "naming to",
]


@pytest.fixture(scope="module")
def mortal() -> Iterator[Daemon]:
    """A daemon that tests may kill."""
    with running() as daemon:
        daemon.import_image()
        yield daemon


@pytest.fixture
def daemon(mortal: Daemon) -> Iterator[Daemon]:
    yield mortal
    mortal.remove_other_images()
    assert mortal.request("POST", "/build/prune?all=1").status == 200
    unscathed(mortal)


@pytest.fixture
def served(tmp_path: Path) -> Folders:
    (tmp_path / "large").write_bytes(secrets.token_bytes(3_000_000))
    (tmp_path / "Dockerfile").write_text(RECIPE)
    named = tmp_path / "named"
    named.mkdir()
    (named / "f").write_text("named\n")
    return Folders({"context": tmp_path, "dockerfile": tmp_path, "named": named})


def unscathed(daemon: Daemon) -> None:
    """Nothing is left of builds but images and their cache."""
    eventually(lambda: daemon.request("GET", "/containers/json?all=1").json == [])
    eventually(lambda: daemon.request("GET", "/system/check").json["Problems"] in (None, []))
    mounts = Path(f"/proc/{daemon.process.pid}/mountinfo").read_text() if daemon.process else ""
    assert mounts.count(str(daemon.data_root / "snapshots")) <= mounts.count("/.init") + 1


def points_of(message: pb.StatusResponse) -> list[str]:
    """Return what a message tells of, each a text in which a point can be found."""
    found = [one.name for one in message.vertexes]
    found += [f"completed {one.name.partition('] ')[2]}" for one in message.vertexes
              if one.HasField("completed")]  # fmt: skip
    return found + [one.msg.decode() for one in message.logs]


async def until(daemon: Daemon, served: Folders, point: str, reached: asyncio.Event) -> None:
    """Build until a point is reached, or the build has ended."""
    attributes = {"context:named": "local:named"}
    async with (
        buildkit.session(daemon.socket, served) as known,
        buildkit.client(daemon.socket) as one,
    ):
        ref = secrets.token_hex(8)
        exporter = pb.Exporter(Type="moby", Attrs={"name": "made:1"})
        request = pb.SolveRequest(
            Ref=ref,
            Session=known,
            Frontend="dockerfile.v0",
            FrontendAttrs=attributes,
            Exporters=[exporter],
        )
        solve = asyncio.ensure_future(one.control("Solve", request, pb.SolveResponse))
        try:
            async for message in one.events("Status", pb.StatusRequest(Ref=ref), pb.StatusResponse):
                if any(point in text for text in points_of(message)):
                    reached.set()
                    await asyncio.sleep(3600)  # until we are cancelled
            await solve
        finally:
            solve.cancel()
            await asyncio.wait([solve])
            if not solve.cancelled():
                solve.exception()


@pytest.mark.parametrize("point", POINTS[1::2])
def test_a_daemon_killed_at_any_point_of_a_build_goes_on_from_there(
    daemon: Daemon, served: Folders, point: str
) -> None:
    async def main() -> None:
        reached = asyncio.Event()
        task = asyncio.ensure_future(until(daemon, served, point, reached))
        await asyncio.wait_for(reached.wait(), 60)
        await asyncio.to_thread(daemon.kill)
        task.cancel()
        await asyncio.wait([task])
        with contextlib.suppress(asyncio.CancelledError, GRPCError, OSError, StreamTerminatedError):
            task.result()

    asyncio.run(main())
    daemon.start()
    unscathed(daemon)
    names = ordeals.names(daemon)
    assert names <= {"busybox:latest", "made:1"}
    if "made:1" in names:  # it was faster than the signal
        assert POINTS.index(point) >= POINTS.index("completed RUN i=0")
    made = asyncio.run(
        buildkit.build(
            daemon.socket, served, "made:1", ("moby",), **{"context:named": "local:named"}
        )
    )
    if POINTS.index(point) > POINTS.index("RUN --mount"):  # what was complete is there again
        assert any("COPY large" in name for name in made.cached)
        assert any("RUN --mount" in name for name in made.cached)
    assert ordeals.names(daemon) == {"busybox:latest", "made:1"}


@pytest.mark.parametrize("point", POINTS)
def test_a_client_that_goes_at_any_point_leaves_nothing(
    daemon: Daemon, served: Folders, point: str
) -> None:
    first = {"Image": "busybox", "Cmd": ["true"]}  # opens what stays open
    container = daemon.request("POST", "/containers/create", first).json["Id"]
    daemon.request("POST", f"/containers/{container}/start")
    daemon.remove_containers()
    before = daemon.request("GET", "/info").json["NFd"]

    async def main() -> None:
        reached = asyncio.Event()
        task = asyncio.ensure_future(until(daemon, served, point, reached))
        await asyncio.wait_for(reached.wait(), 60)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    unscathed(daemon)
    eventually(lambda: daemon.request("GET", "/info").json["NFd"] <= before + 2)
    assert ordeals.names(daemon) <= {"busybox:latest", "made:1"}


@pytest.mark.parametrize("how", ["a step", "a copy", "a named context"])
def test_a_full_disk_is_one_clear_error_and_nothing_stays(tmp_path: Path, how: str) -> None:
    (tmp_path / "large").write_bytes(secrets.token_bytes(40_000_000))
    recipes = {
        "a step": "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=60",
        "a copy": "FROM busybox\nCOPY large /large\n",
        "a named context": "FROM named\nENV A=b\n",
    }
    (tmp_path / "Dockerfile").write_text(recipes[how])
    served = Folders({"context": tmp_path, "dockerfile": tmp_path, "named": tmp_path})
    attributes = {"context:named": "local:named"}
    with running(data_size="32m") as daemon:
        daemon.import_image()
        with pytest.raises(GRPCError) as caught:
            asyncio.run(buildkit.build(daemon.socket, served, "made:1", ("moby",), **attributes))
        message = str(caught.value.message).lower()
        assert "no space left on device" in message or "exit code: 1" in message
        assert ordeals.names(daemon) == {"busybox:latest"}
        unscathed(daemon)
        (tmp_path / "large").unlink()
        (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo small >/small\n")
        asyncio.run(buildkit.build(daemon.socket, served, "made:1", ("moby",)))
        assert ordeals.names(daemon) == {"busybox:latest", "made:1"}
