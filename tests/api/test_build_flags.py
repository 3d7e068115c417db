"""What each flag of `docker buildx build` does, or why it is refused.

The attributes are those that buildx 0.36 makes of its flags; what it does by itself (--iidfile,
--metadata-file, --progress, --quiet, --builder) never comes to us.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit import control_pb2 as pb
from tests import buildkit
from tests.buildkit import Folders
from tests.daemon import Daemon

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
LOOK = "FROM busybox\nRUN {}\n"


def said(daemon: Daemon, folder: Path, recipe: str, attributes: dict[str, str]) -> str:
    (folder / "Dockerfile").write_text(recipe)
    served = Folders({"context": folder, "dockerfile": folder})
    made = asyncio.run(buildkit.build(daemon.socket, served, "", (), **attributes))
    return made.logs.decode()


@pytest.mark.parametrize(
    ("flag", "attributes", "recipe", "expected"),
    [
        ("--add-host a:1.2.3.4", {"add-hosts": "a=1.2.3.4"},
         LOOK.format("grep 1.2.3.4 /etc/hosts"), "1.2.3.4\ta\n"),
        ("--build-arg A=1", {"build-arg:A": "1"}, "FROM busybox\nARG A\nRUN echo $A", "1\n"),
        ("--build-arg BUILDKIT_SANDBOX_HOSTNAME=h", {"build-arg:BUILDKIT_SANDBOX_HOSTNAME": "h"},
         LOOK.format("cat /etc/hostname"), "h\n"),
        ("no host name", {}, LOOK.format("cat /etc/hostname"), "buildkitsandbox\n"),
        ("--network none", {"force-network-mode": "none"},
         LOOK.format("ls /sys/class/net"), "lo\n"),
        ("--network default", {}, LOOK.format("ls /sys/class/net"), "eth0\nlo\n"),
        ("--shm-size 3m", {"shm-size": "3145728"},
         LOOK.format("grep -o size=3072k /proc/mounts"), "size=3072k\n"),
        ("--ulimit nofile=99:100", {"ulimit": "nofile=99:100"},
         LOOK.format("ulimit -n"), "99\n"),
        ("--target a", {"target": "a"},
         "FROM busybox AS a\nRUN echo a\nFROM busybox\nRUN echo b", "a\n"),
        ("--file sub/D", {"filename": "sub/D"}, "none", "sub\n"),
        ("--pull=false", {"image-resolve-mode": "local"}, LOOK.format("echo x"), "x\n"),
        ("--build-arg BUILDKIT_DOCKERFILE_CHECK=skip=all",
         {"build-arg:BUILDKIT_DOCKERFILE_CHECK": "skip=all"},
         "# check=error=true\nFROM busybox\nrun echo x", "x\n"),
    ],
)  # fmt: skip
def test_a_flag_works(
    clean: Daemon,
    tmp_path: Path,
    flag: str,
    attributes: dict[str, str],
    recipe: str,
    expected: str,
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "D").write_text(LOOK.format("echo sub"))
    assert said(clean, tmp_path, recipe, attributes) == expected, flag


@pytest.mark.parametrize(
    ("flag", "attributes", "sentence"),
    [
        ("--pull", {"image-resolve-mode": "pull"}, "registry-1"),  # no registry is there
        ("--target x", {"target": "x"}, "target stage x could not be found"),
        ("--network x", {"force-network-mode": "x"}, "invalid network mode: x"),
        ("--shm-size x", {"shm-size": "x"}, "invalid shm-size: x"),
        ("--ulimit x", {"ulimit": "x"}, "invalid ulimit: x"),
        ("--call x", {"requestid": "frontend.x"}, r"unsupported request frontend\.x"),
        ("--build-context a=b:c", {"context:busybox": "b:c"}, "unsupported context source b for"),
    ],
)
def test_a_flag_is_refused(
    clean: Daemon, tmp_path: Path, flag: str, attributes: dict[str, str], sentence: str
) -> None:
    with pytest.raises(GRPCError, match=sentence):
        said(clean, tmp_path, LOOK.format("echo x"), attributes)


@pytest.mark.parametrize(
    ("flag", "fields", "sentence"),
    [
        ("--network host", {"Entitlements": ["network.host"]}, ""),
        ("--allow x", {"Entitlements": ["x"]}, "unknown entitlement x"),
        ("--policy", {"SourcePolicy": b"\n\0"}, "source policies are not supported"),
        ("a proxy", {"ProxyNetwork": True}, "builds behind a proxy of their own"),
        ("BUILDKIT_SYNTAX=other", {"Frontend": "gateway.v0", "FrontendAttrs": {"source": "other"}},
         'invalid frontend "other": only dockerfile.v0 is there'),
        ("BUILDKIT_SYNTAX=docker/dockerfile:1",
         {"Frontend": "gateway.v0", "FrontendAttrs": {"source": "docker/dockerfile:1"}}, ""),
    ],
)  # fmt: skip
def test_a_request_is_taken_or_refused(
    clean: Daemon, tmp_path: Path, flag: str, fields: dict[str, object], sentence: str
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    served = Folders({"context": tmp_path, "dockerfile": tmp_path})
    wanted = {"Frontend": "dockerfile.v0", **fields}

    async def main() -> str:
        async with (
            buildkit.session(clean.socket, served) as known,
            buildkit.client(clean.socket) as one,
        ):
            request = pb.SolveRequest(Ref=f"{flag} {fields}", Session=known, **wanted)  # type: ignore[arg-type]
            try:
                await one.control("Solve", request, pb.SolveResponse)
            except GRPCError as error:
                return str(error.message)
            return ""

    found = asyncio.run(main())
    assert found == sentence or (sentence and found.startswith(sentence))
