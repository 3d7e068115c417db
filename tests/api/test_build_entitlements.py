"""Networks, security and devices of steps: what clients grant, and what daemons let them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from tests import buildkit
from tests.buildkit import Folders, Result
from tests.daemon import Daemon, running
from tests.session import scratch

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
NETWORK = "RUN {}readlink /proc/self/ns/net; ls /sys/class/net | tr '\\n' ' '"
INSECURE = "RUN {}grep -E '^(CapEff|Seccomp:|NoNewPrivs)' /proc/self/status"
DEVICES: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/full",
    "annotations": {"org.mobyproject.buildkit.device.class": "full"},
    "containerEdits": {"env": ["DRIVER=yes"]},
    "devices": [
        {"name": name, "annotations": notes,
         "containerEdits": {"deviceNodes": [{"path": f"/dev/{name}", "hostPath": "/dev/full"}]}}
        for name, notes in (
            ("a", {}), ("b", {"org.mobyproject.buildkit.device.autoallow": "true"}),
        )
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def lenient() -> Iterator[Daemon]:
    """A daemon that lets clients grant everything, and knows devices."""
    folder = scratch()
    folder.chmod(0o755)  # the daemon reads it without any privilege
    (folder / "full.json").write_text(json.dumps(DEVICES))
    with running("--builder-security-insecure", "--cdi-spec-dir", str(folder)) as daemon:
        daemon.import_image()
        yield daemon
    shutil.rmtree(folder)


def build(
    daemon: Daemon, folder: Path, step: str, allow: Sequence[str] = (), **attributes: str
) -> Result:
    (folder / "Dockerfile").write_text(f"FROM busybox\n{step}\n")
    served = Folders({"context": folder, "dockerfile": folder})
    attributes.setdefault("no-cache", "")
    return asyncio.run(buildkit.build(daemon.socket, served, "", allow=allow, **attributes))


def network_of(daemon: Daemon) -> str:
    found = subprocess.run(
        [*daemon.enter, "readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def test_a_step_has_the_network_that_it_asks_for(daemon: Daemon, tmp_path: Path) -> None:
    host = network_of(daemon)
    alone = build(daemon, tmp_path, NETWORK.format("--network=none ")).logs.decode()
    assert host not in alone
    assert alone.splitlines()[1].startswith("lo writing")
    bridged = build(daemon, tmp_path, NETWORK.format("--network=default ")).logs.decode()
    assert host not in bridged
    assert {"lo", "eth0"} <= set(bridged.splitlines()[1].split())
    shared = build(
        daemon, tmp_path, NETWORK.format("--network=host "), ["network.host"]
    ).logs.decode()
    assert shared.splitlines()[0] == host


@pytest.mark.parametrize(
    ("step", "attributes", "sentence"),
    [
        (NETWORK.format("--network=host "), {}, "network.host is not allowed"),
        (NETWORK.format(""), {"force-network-mode": "host"}, "network.host is not allowed"),
        (INSECURE.format("--security=insecure "), {}, "security.insecure is not allowed"),
        ("RUN --network=other true", {}, "other"),
        ("RUN --security=other true", {}, 'security "other" is not valid'),
        ("RUN --device=x,y true", {}, "invalid field 'y' must be a key=value pair"),
        ("RUN --device=x/y=z,required true", {}, 'required device "x/y=z" is not registered'),
    ],
)
def test_what_nobody_granted_is_refused_by_name(
    daemon: Daemon, tmp_path: Path, step: str, attributes: dict[str, str], sentence: str
) -> None:
    with pytest.raises(GRPCError, match=re.escape(sentence)):
        build(daemon, tmp_path, step, **attributes)


def test_a_daemon_decides_what_may_be_granted(
    daemon: Daemon, lenient: Daemon, tmp_path: Path
) -> None:
    step = INSECURE.format("--security=insecure ")
    sentence = "granting entitlement security.insecure is not allowed by build daemon configuration"
    with pytest.raises(GRPCError, match=sentence):
        build(daemon, tmp_path, step, ["security.insecure"])
    with pytest.raises(GRPCError, match=r"security\.insecure is not allowed"):
        build(lenient, tmp_path, step)
    usual = build(lenient, tmp_path, INSECURE.format("--security=sandbox ")).logs.decode()
    granted = build(lenient, tmp_path, step, ["security.insecure"]).logs.decode()
    assert "Seccomp:\t2" in usual
    assert "Seccomp:\t0" in granted
    assert granted.splitlines()[0] != usual.splitlines()[0]


def test_a_cached_step_counts_only_for_what_has_the_same_rights(
    lenient: Daemon, tmp_path: Path
) -> None:
    allow, again = ["security.insecure", "network.host"], {"no-cache": "none"}  # of these stages
    flags = ("", "--security=insecure ", "--network=host ", "--device=example.com/full=b ")
    steps = [f"RUN {flag}echo cached" for flag in flags]
    for step in steps:
        assert not build(lenient, tmp_path, step, allow, **again).cached
        assert build(lenient, tmp_path, step, allow, **again).cached
    with pytest.raises(GRPCError, match=r"security\.insecure is not allowed"):
        build(lenient, tmp_path, steps[1], **again)


def test_devices_are_granted_by_name_class_and_alias(lenient: Daemon, tmp_path: Path) -> None:
    look = "echo $DRIVER $(cd /dev; ls a b 2>/dev/null)"
    for flag, allow, seen in (
        ("example.com/full=a", ["device"], "yes a"),
        ("example.com/full=*", ["device"], "yes a b"),
        ("full", ["device"], "yes a b"),
        ("example.com/full=a", ["device=example.com/full=a"], "yes a"),
        ("mine", ["device=example.com/full=a,alias=mine"], "yes a"),
        ("example.com/full=b", [], "yes b"),
        ("example.com/full=none", [], ""),
    ):
        made = build(lenient, tmp_path, f"RUN --device={flag} {look}", allow)
        assert made.logs.decode().splitlines()[0] == seen, flag
    with pytest.raises(GRPCError, match="full=a is requested by the build"):
        build(lenient, tmp_path, "RUN --device=example.com/full=a true")
    after = build(lenient, tmp_path, f"RUN {look}").logs.decode()
    assert after.splitlines()[0] == ""


@pytest.mark.parametrize("face", ["buildkit", "classic"])
def test_cve_2024_23653_no_face_runs_a_privileged_step_without_a_grant(
    lenient: Daemon, tmp_path: Path, face: str
) -> None:
    """BuildKit's gateway started containers with rights that nobody had granted."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nONBUILD RUN --security=insecure true\n")
    (tmp_path / "child").write_text("FROM trap\n")
    sampan = [lenient.programs["sampan"], "build", "-q", str(tmp_path)]
    subprocess.run([*sampan, "-t", "trap"], check=True, env=lenient.environment)
    if face == "buildkit":
        served = Folders({"context": tmp_path, "dockerfile": tmp_path})
        with pytest.raises(GRPCError, match=r"security\.insecure is not allowed"):
            asyncio.run(buildkit.build(lenient.socket, served, filename="child"))
        return
    words = [*sampan, "-f", str(tmp_path / "child")]
    done = subprocess.run(words, capture_output=True, env=lenient.environment, check=False)
    assert b"security.insecure is not allowed" in done.stderr
    words += ["--allow", "security.insecure"]
    assert subprocess.run(words, env=lenient.environment, check=False).returncode == 0


def test_our_command_line_grants(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\n{NETWORK.format('--network=host ')}\n")

    def sampan(*flags: str) -> subprocess.CompletedProcess[str]:
        words = [daemon.programs["sampan"], "build", "--no-cache", *flags, str(tmp_path)]
        return subprocess.run(
            words, capture_output=True, text=True, env={**os.environ, **daemon.environment},
            check=False,
        )  # fmt: skip

    assert "network.host is not allowed" in sampan().stderr
    assert network_of(daemon) in sampan("--allow", "network.host").stderr
    assert network_of(daemon) in sampan("--network", "host").stderr
