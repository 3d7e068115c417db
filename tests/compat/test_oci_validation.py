"""What the OCI runtime specification demands, asked of `sampan-runtime` from outside.

The second part runs the validation programs of opencontainers/runtime-tools beside Debian's runc,
where their sources ($OCI_RUNTIME_TOOLS, a checkout) and a Go compiler are there.
"""

from __future__ import annotations

import array
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.compat,
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

RUNTIME = Path(sys.executable).with_name("sampan-runtime")
APPLETS = (
    *("sh", "ls", "id", "cat", "sleep", "true", "mount", "ps", "grep", "stat", "kill", "echo"),
    *("hostname", "pwd", "env", "readlink", "touch", "mkdir", "mknod", "wc", "chown", "umount"),
)
Done = subprocess.CompletedProcess[str]


class Box:
    """A bundle with a root file system of busybox, and a state directory."""

    def __init__(self, home: Path) -> None:
        self.home, self.root = home, home / "state"
        self.rootfs = home / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.rootfs / "bin/busybox")
        for applet in APPLETS:
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        for folder in ("proc", "sys", "dev", "tmp", "etc"):
            (self.rootfs / folder).mkdir()
        self("spec", "--bundle", str(home))
        self.spec: dict[str, Any] = json.loads((home / "config.json").read_text())
        self.spec["process"]["terminal"] = False
        self.spec["process"]["rlimits"] = []
        self.spec["root"]["readonly"] = False
        self.id = f"sampan-oci-{os.getpid()}-{time.monotonic_ns()}"
        self.spec["linux"]["cgroupsPath"] = f"/{self.id}"

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> Done:
        command = [str(RUNTIME), "--root", str(self.root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def write(self) -> None:
        (self.home / "config.json").write_text(json.dumps(self.spec))

    def run(self, script: str, check: bool = True, **options: Any) -> Done:
        """Run a shell script as the container's program, in the foreground."""
        self.spec["process"]["args"] = ["/bin/sh", "-c", script]
        self.write()
        return self("run", "--bundle", str(self.home), self.id, check=check, **options)

    def create(self, script: str = "sleep 100", *arguments: str, **options: Any) -> Done:
        self.spec["process"]["args"] = ["/bin/sh", "-c", script]
        self.write()
        # Its streams are not ours: who reads a pipe to its end would wait for the container.
        with open(self.home / "output", "w") as out:
            command = [str(RUNTIME), "--root", str(self.root), "create", "--bundle", str(self.home)]
            check = options.pop("check", True)
            done = subprocess.run(
                [*command, *arguments, self.id],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
                timeout=60,
                **options,
            )
        done.stdout = done.stderr = (self.home / "output").read_text()
        assert not check or done.returncode == 0, done.stderr
        return done

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self("state", self.id).stdout)
        return state

    def wait_for(self, status: str) -> None:
        deadline = time.monotonic() + 10
        while self.state()["status"] != status:
            assert time.monotonic() < deadline, f"the container is {self.state()['status']}"
            time.sleep(0.01)

    def clean(self) -> None:
        self("delete", "--force", self.id)
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{self.id}")), "a cgroup is left"
        assert not (self.root / self.id).exists(), "a state is left"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.clean()


# --- the life cycle ----------------------------------------------------------------------------


def test_a_container_is_created_started_stopped_deleted(box: Box) -> None:
    box.create("echo done; exit 0")
    assert box.state()["status"] == "created"
    assert (box.home / "output").read_text() == ""
    box("start", box.id)
    box.wait_for("stopped")
    assert (box.home / "output").read_text() == "done\n"
    assert box.state()["pid"] == 0
    box("delete", box.id)
    assert "does not exist" in box("state", box.id, check=False).stderr


def test_the_state_says_what_the_specification_demands(box: Box) -> None:
    box.spec["annotations"] = {"org.example.key": "value"}
    box.create()
    state = box.state()
    assert state["id"] == box.id
    assert state["ociVersion"] == box.spec["ociVersion"]
    assert state["bundle"] == str(box.home)
    assert state["annotations"] == {"org.example.key": "value"}
    assert Path(f"/proc/{state['pid']}").exists()


@pytest.mark.parametrize("arguments", [("create",), ("state",), ("start",), ("kill",), ("delete",)])
def test_a_command_without_an_id_is_an_error(box: Box, arguments: tuple[str, ...]) -> None:
    assert box(*arguments, check=False).returncode == 1


def test_an_id_is_unique(box: Box) -> None:
    box.create()
    again = box.create(check=False)
    assert again.returncode == 1
    assert "container with given ID already exists" in again.stderr
    assert box.state()["status"] == "created"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä"])
def test_an_id_that_is_no_name_is_refused(box: Box, name: str) -> None:
    box.write()
    done = box("create", "--bundle", str(box.home), name, check=False)
    assert (done.returncode, "invalid container ID format" in done.stderr) == (1, True)


def test_only_a_created_container_starts(box: Box) -> None:
    box.create()
    box("start", box.id)
    assert "already running" in box("start", box.id, check=False).stderr
    box("kill", box.id, "KILL")
    box.wait_for("stopped")
    assert "has stopped" in box("start", box.id, check=False).stderr


def test_a_running_container_is_deleted_by_force_alone(box: Box) -> None:
    box.create()
    box("start", box.id)
    refused = box("delete", box.id, check=False)
    assert (refused.returncode, "not stopped: running" in refused.stderr) == (1, True)
    box("delete", "--force", box.id)
    box("delete", "--force", box.id)


def test_a_stopped_container_takes_no_signal(box: Box) -> None:
    box.create("true")
    box("start", box.id)
    box.wait_for("stopped")
    assert "container not running" in box("kill", box.id, check=False).stderr


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "10"])
def test_a_signal_has_a_name_or_a_number(box: Box, name: str) -> None:
    box.create("trap 'echo got; exit 0' USR1; echo ready; while :; do sleep 0.05; done")
    box("start", box.id)
    while "ready" not in (box.home / "output").read_text():
        time.sleep(0.01)
    box("kill", box.id, name)
    box.wait_for("stopped")
    assert "got" in (box.home / "output").read_text()


def test_a_change_of_the_configuration_after_create_has_no_effect(box: Box) -> None:
    box.create("echo first")
    box.spec["process"]["args"] = ["/bin/sh", "-c", "echo second"]
    box.write()
    box("start", box.id)
    box.wait_for("stopped")
    assert (box.home / "output").read_text() == "first\n"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("process", "args"), [], "args must not be empty"),
        (("process", "cwd"), "relative", "Cwd must be an absolute path"),
        (("process", "cwd"), "", "Cwd property must not be empty"),
        (("ociVersion",), "nonsense", "is no valid version"),
        (("ociVersion",), "2.0.0", "is not supported"),
        (("root", "path"), "nowhere", "invalid rootfs"),
        (
            ("process", "rlimits"),
            [{"type": "RLIMIT_X", "soft": 1, "hard": 1}],
            "invalid rlimit type",
        ),
        (("linux", "sysctl"), {"kernel.panic": "1"}, "is not in a separate kernel namespace"),
        (("linux", "namespaces"), [{"type": "pid", "path": "/nix"}], "/nix"),
        (("process", "args"), ["/no-such"], "no such file or directory"),
    ],
)
def test_a_specification_that_cannot_be_carried_out_leaves_nothing(
    box: Box, place: tuple[str, ...], value: object, message: str
) -> None:
    target = box.spec
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    box.write()
    done = box("create", "--bundle", str(box.home), box.id, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (box.root / box.id).exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{box.id}"))


def test_unknown_properties_are_ignored(box: Box) -> None:
    box.spec["unknown"] = box.spec["linux"]["unknown"] = {"a": 1}
    assert box.run("echo ok").stdout == "ok\n"


# --- run and exec ------------------------------------------------------------------------------


def test_run_returns_the_exit_status_and_cleans_up(box: Box) -> None:
    assert box.run("exit 7", check=False).returncode == 7
    assert box("list", "--quiet").stdout == ""


def test_run_says_128_and_the_signal(box: Box) -> None:
    box.spec["linux"]["namespaces"] = [
        each for each in box.spec["linux"]["namespaces"] if each["type"] != "pid"
    ]
    assert box.run("kill -KILL $$", check=False).returncode == 137


def test_run_hands_signals_on(box: Box) -> None:
    box.spec["process"]["args"] = [
        "/bin/sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    ]
    box.write()
    command = [str(RUNTIME), "--root", str(box.root), "run", "--bundle", str(box.home), box.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9


def test_exec_runs_beside_the_program(box: Box) -> None:
    box.create()
    box("start", box.id)
    done = box(
        "exec",
        "--env",
        "X=y",
        "--cwd",
        "/tmp",
        box.id,
        "sh",
        "-c",
        "echo $X; pwd; exit 4",
        check=False,
    )
    assert (done.stdout, done.returncode) == ("y\n/tmp\n", 4)
    assert box("exec", "-u", "5:6", "-g", "7", box.id, "id", "-G").stdout == "6 7\n"


def test_exec_takes_a_process_document(box: Box) -> None:
    box.create()
    box("start", box.id)
    process = dict(box.spec["process"], args=["/bin/sh", "-c", "echo $0 $A"], env=["A=b"])
    (box.home / "process.json").write_text(json.dumps(process))
    assert box("exec", "--process", str(box.home / "process.json"), box.id).stdout == "/bin/sh b\n"


def test_a_failed_exec_is_255(box: Box) -> None:
    box.create()
    box("start", box.id)
    done = box("exec", box.id, "/no-such", check=False)
    assert (done.returncode, "no such file" in done.stderr) == (255, True)
    box("kill", box.id, "KILL")
    box.wait_for("stopped")
    assert "cannot exec in a stopped container" in box("exec", box.id, "true", check=False).stderr


def test_descriptors_are_handed_on_when_asked(box: Box) -> None:
    box.spec["process"]["args"] = ["/bin/sh", "-c", "echo through >&3"]
    box.write()
    reader, writer = os.pipe()
    options = ["run", "--preserve-fds", "1", "--bundle", str(box.home), box.id]
    command = [str(RUNTIME), "--root", str(box.root), *options]
    script = f"import os; os.dup2({writer}, 3); os.execv({command[0]!r}, {command!r})"
    subprocess.run([sys.executable, "-c", script], pass_fds=(writer,), check=True, timeout=60)
    assert os.read(reader, 100) == b"through\n"
    os.close(reader)
    os.close(writer)


def test_a_descriptor_that_is_not_open_cannot_be_handed_on(box: Box) -> None:
    box.write()
    done = box("create", "--preserve-fds", "9", "--bundle", str(box.home), box.id, check=False)
    assert (done.returncode, "unable to preserve fd" in done.stderr) == (1, True)


def test_no_descriptor_is_handed_on_unasked(box: Box) -> None:
    # CVE-2024-21626
    done = box.run("ls /proc/self/fd | wc -l", pass_fds=())
    assert int(done.stdout) == 4  # 0, 1, 2 and the directory itself


def test_a_terminal_comes_through_the_console_socket(box: Box) -> None:
    box.spec["process"]["terminal"] = True
    path = str(box.home / "console")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        box.create("test -t 0 && echo terminal; sleep 100", "--console-socket", path)
        peer, _ = server.accept()
        with peer:
            size = array.array("i", [0]).itemsize
            _, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(size))
    master = array.array("i", ancillary[0][2])[0]
    box("start", box.id)
    assert os.read(master, 100).strip() == b"terminal"
    os.close(master)


def test_the_pid_file_has_the_pid(box: Box) -> None:
    path = box.home / "pid"
    box.create("sleep 100", "--pid-file", str(path))
    assert int(path.read_text()) == box.state()["pid"]


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
    assert json.loads(box("ps", "-f", "json", box.id).stdout) == []
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
