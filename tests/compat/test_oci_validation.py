"""What the OCI runtime specification demands of a container, asked from inside and outside.

The last part runs the validation programs of opencontainers/runtime-tools beside Debian's runc,
where their sources ($OCI_RUNTIME_TOOLS, a checkout) and a Go compiler are there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bundle import RUNTIME, Box
from tests.session import eventually

pytestmark = [
    pytest.mark.compat,
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.clean()


# --- the container -----------------------------------------------------------------------------


def test_the_process_is_as_specified(box: Box) -> None:
    box.spec["hostname"] = "boxed"
    box.spec["process"] |= {
        "cwd": "/made/for/it",
        "env": ["PATH=/bin", "KEY=value with spaces"],
        "user": {"uid": 11, "gid": 12, "additionalGids": [13, 14], "umask": 0o027},
        "oomScoreAdj": 100,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
    }
    script = "hostname; pwd; echo $KEY; id -u; id -g; id -G; umask; "
    script += "cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn"
    assert box.run(script).stdout.split("\n") == [
        *("boxed", "/made/for/it", "value with spaces", "11", "12", "12 13 14", "0027", "100"),
        *("100", "200", ""),
    ]


def test_capabilities_are_those_of_the_five_lists(box: Box) -> None:
    box.spec["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }
    box.spec["process"]["user"] = {"uid": 5, "gid": 5}
    lines = dict(
        line.split(":\t") for line in box.run("grep ^Cap /proc/self/status").stdout.splitlines()
    )
    # After execve(2) by an ordinary user the ambient set is what is left.
    expected = {"CapBnd": 0x21, "CapInh": 1, "CapPrm": 1, "CapEff": 1, "CapAmb": 1}
    assert {key: int(value, 16) for key, value in lines.items()} == expected


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(box: Box, wanted: bool) -> None:
    box.spec["process"]["noNewPrivileges"] = wanted
    done = box.run("grep NoNewPrivs /proc/self/status")
    assert done.stdout.split() == ["NoNewPrivs:", str(int(wanted))]


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_system_calls_are_filtered(box: Box, no_new_privileges: bool) -> None:
    box.spec["process"]["noNewPrivileges"] = no_new_privileges
    box.spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    done = box.run("touch /file && mkdir /folder", check=False)
    assert "No space left on device" in done.stderr
    assert (box.rootfs / "file").exists()


def test_default_devices_and_links_are_there(box: Box) -> None:
    script = "for d in null zero full random urandom tty; do stat -c '%F %t:%T %a' /dev/$d; done; "
    script += "for l in fd stdin ptmx; do readlink /dev/$l; done; echo x > /dev/null"
    lines = box.run(script).stdout.splitlines()
    numbers = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"]
    assert lines[:6] == [f"character special file {number} 666" for number in numbers]
    assert lines[6:9] == ["/proc/self/fd", "/proc/self/fd/0", "pts/ptmx"]


def test_a_device_is_made_and_allowed(box: Box) -> None:
    device = {
        "path": "/dev/mine",
        "type": "c",
        "major": 1,
        "minor": 5,
        "fileMode": 0o640,
        "uid": 3,
        "gid": 4,
    }
    box.spec["linux"]["devices"] = [device]
    done = box.run("stat -c '%t:%T %a %u:%g' /dev/mine")
    assert done.stdout == "1:5 640 3:4\n"


def test_a_device_that_is_not_listed_cannot_be_opened(box: Box) -> None:
    box.spec["process"]["capabilities"]["bounding"] += ["CAP_MKNOD"]
    box.spec["process"]["capabilities"]["effective"] += ["CAP_MKNOD"]
    box.spec["process"]["capabilities"]["permitted"] += ["CAP_MKNOD"]
    done = box.run("mknod /tmp/kmsg c 1 11 && echo made && cat /tmp/kmsg", check=False)
    assert done.stdout == "made\n"
    assert "Operation not permitted" in done.stderr


def test_paths_are_masked_and_read_only(box: Box) -> None:
    (box.rootfs / "secret").write_text("secret")
    (box.rootfs / "hidden").mkdir()
    (box.rootfs / "hidden/file").write_text("")
    (box.rootfs / "fixed").mkdir()
    box.spec["linux"]["maskedPaths"] = ["/secret", "/hidden", "/not-there"]
    box.spec["linux"]["readonlyPaths"] = ["/fixed", "/not-there"]
    done = box.run("cat /secret; ls /hidden; touch /fixed/x", check=False)
    assert done.stdout == ""
    assert "Read-only file system" in done.stderr


def test_a_read_only_root(box: Box) -> None:
    box.spec["root"]["readonly"] = True
    assert "Read-only file system" in box.run("touch /x", check=False).stderr


def test_mounts_are_made_in_order(box: Box, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/file").write_text("content")
    box.spec["mounts"] += [
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        {
            "destination": "/data/volume",
            "type": "bind",
            "source": str(tmp_path / "volume"),
            "options": ["bind", "ro"],
        },
        {
            "destination": "/data/file",
            "source": str(tmp_path / "volume/file"),
            "options": ["rbind"],
        },
    ]
    done = box.run(
        "cat /data/volume/file /data/file; touch /data/x; touch /data/volume/x", check=False
    )
    assert done.stdout == "contentcontent"
    assert "/data/volume/x: Read-only file system" in done.stderr
    assert "/data/x" not in done.stderr


def test_sysctls_of_the_container_s_namespaces_are_set(box: Box) -> None:
    box.spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    assert box.run(script).stdout == "1\n4096\n"


def test_namespaces_are_new_joined_or_the_caller_s(box: Box) -> None:
    with subprocess.Popen(["unshare", "--uts", "sleep", "100"]) as other:
        try:
            host = os.readlink("/proc/self/ns/uts")
            while (theirs := os.readlink(f"/proc/{other.pid}/ns/uts")) == host:
                time.sleep(0.01)
            box.spec["linux"]["namespaces"] = [
                *({"type": kind} for kind in ("mount", "pid", "ipc")),
                {"type": "uts", "path": f"/proc/{other.pid}/ns/uts"},
            ]
            box.spec.pop("hostname")
            script = "for n in uts net ipc pid mnt; do readlink /proc/self/ns/$n; done"
            uts, net, *new = box.run(script).stdout.split()
        finally:
            other.kill()
    assert uts == theirs
    assert net == os.readlink("/proc/self/ns/net")
    assert new != [os.readlink(f"/proc/self/ns/{kind}") for kind in ("ipc", "pid", "mnt")]
    assert len(set(new)) == 3


def test_ids_are_mapped_in_a_user_namespace(box: Box) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    box.spec["linux"]["namespaces"].append({"type": "user"})
    box.spec["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    box.home.chmod(0o755)
    for folder in box.home.parents:
        if folder.owner() == "root" and folder != Path("/") and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = box.run("id -u; cat /proc/self/uid_map")
    assert done.stdout.split() == ["0", "0", "100000", "1000"]


def test_hooks_run_in_order_with_the_state(box: Box) -> None:
    log = box.home / "hooks"

    def hook(name: str) -> dict[str, Any]:
        script = f"printf '{name} ' >> {log}; cat >> {log}; echo >> {log}"
        return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}

    points = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    box.spec["hooks"] = {point: [hook(point)] for point in points}
    box.create("sleep 100")
    pid = box.state()["pid"]
    box("start", box.id)
    box("delete", "--force", box.id)
    told = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, _ in told] == list(points)
    states = {name: json.loads(state) for name, state in told}
    assert all(
        state["id"] == box.id and state["bundle"] == str(box.home) for state in states.values()
    )
    assert (states["poststart"]["status"], states["poststart"]["pid"]) == ("running", pid)
    assert states["poststop"]["status"] == "stopped"


@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer"])
def test_a_failed_hook_stops_the_creation(box: Box, point: str) -> None:
    box.spec["hooks"] = {point: [{"path": "/bin/false"}]}
    done = box.create(check=False)
    assert (done.returncode, "hook" in done.stderr) == (1, True)
    assert not (box.root / box.id).exists()


# --- limits and knowledge ----------------------------------------------------------------------


def legacy(box: Box, controller: str, file: str) -> str:
    path = Path(f"/sys/fs/cgroup/{controller}/{box.id}/{file}")
    if not path.exists():
        pytest.skip("cgroup version 1 is not mounted")
    return path.read_text().strip()


def test_limits_are_set_and_updated(box: Box) -> None:
    box.spec["linux"]["resources"] |= {"memory": {"limit": 1 << 26}, "pids": {"limit": 40}}
    box.create()
    assert legacy(box, "memory", "memory.limit_in_bytes") == str(1 << 26)
    assert legacy(box, "pids", "pids.max") == "40"
    box("update", "--memory", "32M", "--pids-limit", "20", "--cpu-share", "512", box.id)
    assert legacy(box, "memory", "memory.limit_in_bytes") == str(1 << 25)
    assert legacy(box, "pids", "pids.max") == "20"
    box("update", "-r", "-", box.id, input='{"memory": {"limit": 67108864}}')
    assert legacy(box, "memory", "memory.limit_in_bytes") == str(1 << 26)
    assert legacy(box, "cpu", "cpu.shares") == "512"


def test_pause_and_resume(box: Box) -> None:
    box.create()
    box("start", box.id)
    box("pause", box.id)
    assert box.state()["status"] == "paused"
    assert "paused" in box("exec", box.id, "true", check=False).stderr
    box("resume", box.id)
    assert box.state()["status"] == "running"
    assert "not paused" in box("resume", box.id, check=False).stderr


def test_processes_and_events_are_told(box: Box) -> None:
    box.create("sleep 100 & sleep 100; true")
    box("start", box.id)
    while len(pids := json.loads(box("ps", "--format", "json", box.id).stdout)) < 3:
        time.sleep(0.01)
    assert box.state()["pid"] in pids
    assert "sleep 100" in box("ps", box.id).stdout
    event = json.loads(box("events", "--stats", box.id).stdout)
    assert (event["type"], event["id"]) == ("stats", box.id)
    assert event["data"]["pids"]["current"] == 3
    assert event["data"]["memory"]["usage"]["usage"] > 0


def test_the_list_shows_every_container(box: Box) -> None:
    box.create()
    (listed,) = json.loads(box("list", "--format", "json").stdout)
    assert (listed["id"], listed["status"]) == (box.id, "created")
    head, line = box("list").stdout.splitlines()
    assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert line.split()[0] == box.id


def test_features_are_told(box: Box) -> None:
    features = json.loads(box("features").stdout)
    assert features["ociVersionMin"] == "1.0.0"
    assert "poststop" in features["hooks"]
    assert {"rbind", "ro", "rro", "idmap"} <= set(features["mountOptions"])
    assert "CAP_CHOWN" in features["linux"]["capabilities"]
    assert "SCMP_ACT_NOTIFY" in features["linux"]["seccomp"]["actions"]


def test_errors_go_to_the_log_as_json(box: Box) -> None:
    log = box.home / "log.json"
    done = box("--log", str(log), "--log-format", "json", "state", "missing", check=False)
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container missing does not exist")
    assert done.stderr == "container missing does not exist\n"


def test_kill_all_reaches_processes_without_a_pid_namespace(box: Box) -> None:
    box.spec["linux"]["namespaces"] = [
        each for each in box.spec["linux"]["namespaces"] if each["type"] != "pid"
    ]
    box.create("sleep 100 & sleep 100; true")
    box("start", box.id)
    while len(pids := json.loads(box("ps", "-f", "json", box.id).stdout)) < 3:
        time.sleep(0.01)
    box("kill", "--all", box.id, "KILL")
    box.wait_for("stopped")
    eventually(lambda: json.loads(box("ps", "-f", "json", box.id).stdout) == [])
    assert len(pids) == 3


# --- opencontainers/runtime-tools --------------------------------------------------------------

TOOLS = os.environ.get("OCI_RUNTIME_TOOLS", "")
PROGRAMS = (
    sorted(
        path.name
        for path in Path(TOOLS, "validation").glob("*")
        if path.is_dir() and path.name != "util"
    )
    if TOOLS
    else []
)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout, and build in it."""
    copy = tmp_path_factory.mktemp("runtime-tools") / "source"
    shutil.copytree(TOOLS, copy, symlinks=True)
    build(copy, "runtimetest", "./cmd/runtimetest")
    return copy


def build(source: Path, output: str, package: str) -> None:
    env = dict(os.environ, GOFLAGS="-mod=vendor", CGO_ENABLED="0", GOTOOLCHAIN="local")
    command = ["go", "build", "-o", output, package]
    subprocess.run(command, cwd=source, env=env, check=True, capture_output=True)


def failures(source: Path, program: str, runtime: str) -> tuple[int, int]:
    """Return whether a program gave up, and how many of its tests failed."""
    env = dict(os.environ, RUNTIME=runtime)
    command = ["unshare", "--mount", "--propagation", "private", f"./{program}.t"]
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, timeout=100)
    failed = re.findall(r"^\s*not ok(?!.*# (?:TODO|SKIP))", done.stdout, re.MULTILINE)
    return int(done.returncode != 0), len(failed)


@pytest.mark.slow
@pytest.mark.skipif(
    not (PROGRAMS and shutil.which("go") and shutil.which("runc")),
    reason="needs $OCI_RUNTIME_TOOLS, go and runc",
)
@pytest.mark.parametrize("program", PROGRAMS or [""])
def test_no_validation_program_fails_more_often_than_with_runc(tools: Path, program: str) -> None:
    build(tools, f"{program}.t", f"./validation/{program}")
    ours = failures(tools, program, str(RUNTIME))
    if ours != (0, 0):
        theirs = failures(tools, program, "runc")
        assert ours <= theirs, f"ours {ours}, runc's {theirs}"
