"""Starting containers: what the program gets, what errors say, what failures leave behind."""

from __future__ import annotations

import dataclasses
import os
import resource
import select
import signal
import socket
from pathlib import Path

import pytest

from sampan.errors import CommandNotExecutable, CommandNotFound, Conflict, Internal, InvalidArgument
from sampan.linux import capabilities
from sampan.linux.cgroups.hierarchy import detect, open_cgroup
from sampan.runtime.container import Container, list_all, reserve
from sampan.runtime.starting import launch as launching
from sampan.runtime.starting.launch import LaunchRequest
from sampan.spec.runtime import (
    ConsoleSize,
    Hook,
    Hooks,
    IOPriority,
    LinuxCapabilities,
    LinuxMemory,
    LinuxPersonality,
    LinuxSeccomp,
    LinuxSyscall,
    Mount,
    Rlimit,
    Scheduler,
    Spec,
    User,
)
from tests.box import Box, spec, tty_output

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]


def status_of(box: Box, **process: object) -> dict[str, str]:
    """Return /proc/self/status of a process in a container."""
    lines = box.shell("exec cat /proc/self/status", **process).lines
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_the_exit_code_of_the_program_reaches_the_caller(box: Box) -> None:
    assert box.shell("exit 7").code == 7


def test_the_init_is_a_child_of_the_caller(box: Box) -> None:
    running = box.start(spec("sleep", "60"))
    stat = Path(f"/proc/{running.launched.pid}/stat").read_text()
    assert int(stat.rpartition(")")[2].split()[1]) == os.getpid()
    os.kill(running.launched.pid, signal.SIGKILL)
    assert running.end().code == -signal.SIGKILL
    box.running.clear()


def test_streams_and_environment_are_those_of_the_request(box: Box) -> None:
    ended = box.shell("echo out; echo err >&2; env", env=["PATH=/bin", "A=b c", "E="])
    assert (ended.lines[0], ended.err) == ("out", "err\n")
    assert {"A=b c", "E="} <= set(ended.lines)


def test_no_descriptor_but_the_streams_reaches_the_program(box: Box) -> None:
    held = [os.open("/", os.O_RDONLY) for _ in range(3)]
    for fd in held:
        os.set_inheritable(fd, True)
    try:
        ended = box.shell("ls -1 /proc/self/fd")
    finally:
        for fd in held:
            os.close(fd)
    assert ended.lines == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_passed_descriptors_become_three_and_four(box: Box) -> None:
    pipes = [os.pipe(), os.pipe()]
    for place, (_, write) in enumerate(pipes):
        os.write(write, b"%d" % place)
        os.close(write)
    script = "cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID; ls /proc/$$/fd; true"
    wanted = spec("sh", "-c", script)
    ended = box.run(wanted, pass_fds=tuple(read for read, _ in pipes), listen_fds=True)
    for read, _ in pipes:
        os.close(read)
    assert ended.lines == ["012 1", "0", "1", "2", "3", "4"]


def test_signals_have_their_default_actions(box: Box) -> None:
    status = status_of(box)
    assert int(status["SigIgn"], 16) == int(status["SigBlk"], 16) == 0


def test_the_user_its_groups_and_umask_are_set(box: Box) -> None:
    user = User(uid=1000, gid=1001, additional_gids=[1001, 7], umask=0o027)
    status = status_of(box, user=user)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert sorted(status["Groups"].split()) == ["1001", "7"]
    assert status["Umask"] == "0027"


def test_home_comes_from_the_passwd_of_the_image(box: Box) -> None:
    assert box.shell("echo $HOME").out == "/root\n"
    assert box.shell("echo $HOME", env=["PATH=/bin", "HOME=/x"]).out == "/x\n"


def test_capabilities_are_exactly_those_of_the_specification(box: Box) -> None:
    wanted = LinuxCapabilities(bounding=["CAP_KILL", "CAP_CHOWN"], permitted=["CAP_KILL"])
    status = status_of(box, capabilities=wanted)
    both, kill = (capabilities.bits(names)[0] for names in (wanted.bounding, ["CAP_KILL"]))
    assert [int(status[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh")] == [
        *(both, both & both, both, 0)  # root gets its bounding set back at execve(2)
    ]
    status = status_of(box, capabilities=wanted, user=User(uid=1000))
    assert int(status["CapPrm"], 16) == 0
    assert kill


def test_ambient_capabilities_survive_the_change_of_user(box: Box) -> None:
    names = ["CAP_NET_BIND_SERVICE"]
    wanted = LinuxCapabilities(
        bounding=names, permitted=names, effective=names, inheritable=names, ambient=names
    )
    status = status_of(box, capabilities=wanted, user=User(uid=1000))
    assert int(status["CapEff"], 16) == int(status["CapAmb"], 16) == 1 << 10


def test_unknown_capabilities_warn_and_are_left_out(box: Box) -> None:
    wanted = LinuxCapabilities(bounding=["CAP_MAKE_TEA"])
    assert any("CAP_MAKE_TEA" in text for text in box.shell("", capabilities=wanted).warnings)


def test_a_hard_limit_above_ours_is_lowered_with_one_warning(box: Box) -> None:
    limits = [
        Rlimit(type="RLIMIT_NOFILE", soft=8, hard=20),  # less than we ourselves have open
        Rlimit(type="RLIMIT_MSGQUEUE", soft=1 << 50, hard=1 << 50),
        Rlimit(type="RLIMIT_SIGPENDING", soft=1 << 50, hard=1 << 50),
    ]
    ended = box.shell("ulimit -n; ulimit -Hn", rlimits=limits)
    assert ended.lines == ["8", "20"]
    may_raise = capabilities.capget().effective & (1 << 24)
    assert len(ended.warnings) == (0 if may_raise else 1)


def test_an_unknown_limit_is_refused(box: Box) -> None:
    with pytest.raises(InvalidArgument, match='invalid rlimit type "RLIMIT_TEA"'):
        box.shell("true", rlimits=[Rlimit(type="RLIMIT_TEA", soft=1, hard=1)])


def test_scheduling_attributes_are_set(box: Box) -> None:
    wanted = spec("sh", "-c", "cut -d' ' -f19,41 /proc/self/stat; cat /proc/self/personality")
    assert wanted.process is not None
    assert wanted.linux is not None
    wanted.process.scheduler = Scheduler(policy="SCHED_BATCH", nice=5)
    wanted.process.io_priority = IOPriority(cls="IOPRIO_CLASS_IDLE", priority=0)
    wanted.linux.personality = LinuxPersonality(domain="LINUX32")
    assert box.run(wanted).lines == ["5 3", "00000008"]


def test_an_oom_score_is_set_before_the_program_runs(box: Box) -> None:
    assert box.shell("cat /proc/self/oom_score_adj", oom_score_adj=500).out == "500\n"


def test_no_new_privileges_is_set_on_demand(box: Box) -> None:
    assert status_of(box)["NoNewPrivs"] == "0"
    assert status_of(box, no_new_privileges=True)["NoNewPrivs"] == "1"


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_seccomp_filter_holds(box: Box, no_new_privileges: bool) -> None:
    wanted = spec("sh", "-c", "mkdir /tmp/x; id -u", no_new_privileges=no_new_privileges)
    assert wanted.linux is not None
    assert wanted.process is not None
    wanted.process.user = User(uid=1000 if no_new_privileges else 0)
    wanted.linux.seccomp = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=[LinuxSyscall(names=["mkdir", "mkdirat"], action="SCMP_ACT_ERRNO", errno_ret=95)],
    )
    ended = box.run(wanted)
    assert "Operation not supported" in ended.err
    assert ended.lines == ["1000" if no_new_privileges else "0"]


def apparmor_is_on() -> bool:
    switch = Path("/sys/module/apparmor/parameters/enabled")
    return switch.exists() and switch.read_text().startswith("Y")


@pytest.mark.skipif(apparmor_is_on(), reason="this kernel has AppArmor")
def test_a_profile_without_apparmor_warns(box: Box) -> None:
    ended = box.shell("true", apparmor_profile="docker-default")
    assert ended.code == 0
    assert ended.warnings == ["AppArmor is not on: the profile docker-default is ignored"]


@pytest.mark.skipif(not apparmor_is_on(), reason="this kernel has no AppArmor")
def test_a_profile_that_is_not_loaded_is_refused_by_name(box: Box) -> None:
    with pytest.raises(InvalidArgument, match="apply profile: sampan-nowhere: it is not loaded"):
        box.shell("true", apparmor_profile="sampan-nowhere")


def test_the_working_directory_is_made(box: Box) -> None:
    assert box.shell("pwd", cwd="/srv/a/b").out == "/srv/a/b\n"
    assert (box.root / "srv/a/b").is_dir()


# --- errors ----------------------------------------------------------------------------------


def left_behind(box: Box) -> list[str]:
    """Return cgroups, state and children that a failed start has left."""
    launching.reap_helpers()
    found = ["cgroup"] if open_cgroup(f"/{box.name}").exists() else []
    found += [str(path) for path in box.scratch.glob("run/*")]
    return found


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        (["nosuch"], CommandNotFound, 'exec: "nosuch": executable file not found in $PATH'),
        (["/no"], CommandNotFound, 'exec: "/no": stat /no: no such file or directory'),
        (["/etc/passwd"], CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], CommandNotExecutable, 'exec: "/etc": is a directory'),
        (["/broken"], CommandNotExecutable, "exec /broken: exec format error"),
        (["/script"], CommandNotFound, "exec /script: no such file or directory"),
        ([], InvalidArgument, "args must not be empty"),
    ],
)
def test_a_program_that_cannot_run_is_named_in_dockers_words(
    box: Box, args: list[str], kind: type[Exception], message: str
) -> None:
    (box.root / "broken").write_bytes(b"\x7fELF nonsense")
    (box.root / "script").write_bytes(b"#!/no/such/interpreter\n")
    for name in ("broken", "script"):
        (box.root / name).chmod(0o755)
    with pytest.raises(kind) as caught:
        box.run(spec(*args), state_dir=str(box.scratch / "run/x"))
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert left_behind(box) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cwd": "/etc/passwd"}, 'chdir to cwd ("/etc/passwd") set in config.json failed: not a'),
        ({"cwd": "relative"}, "Cwd must be an absolute path"),
        ({"user": User(uid=1 << 31)}, "uids and gids must be in range 0-2147483647"),
        ({"user": User(gid=-1)}, "uids and gids must be in range 0-2147483647"),
        ({"env": ["NAME"]}, 'invalid environment variable "NAME"'),
        ({"env": ["A=b\0c"]}, "contains NUL byte"),
        ({"oom_score_adj": 5000}, "invalid oomScoreAdj 5000"),
    ],
)
def test_a_broken_process_is_refused_and_nothing_is_left(
    box: Box, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        box.run(spec("true", **change), state_dir=str(box.scratch / "run/x"))
    assert message in str(caught.value)
    assert left_behind(box) == []


def test_a_missing_bind_source_is_named_and_nothing_is_left(box: Box) -> None:
    wanted = spec("true")
    wanted.mounts.append(Mount(destination="/data", type="bind", source="/no/such", options=["ro"]))
    with pytest.raises(InvalidArgument) as caught:
        box.run(wanted)
    assert str(caught.value) == (
        'error mounting "/no/such" to rootfs at "/data": no such file or directory'
    )
    assert left_behind(box) == []


def test_a_cgroup_with_processes_is_not_taken_over(box: Box) -> None:
    running = box.start(spec("sleep", "60"))
    with pytest.raises(InvalidArgument):
        box.start(spec("true"))
    assert not select.select([running.launched.pidfd.number], [], [], 0)[0]
    os.close(running.out)
    os.close(running.err)


def test_many_failures_leave_no_descriptor_behind(box: Box) -> None:
    detect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(CommandNotFound):
            box.run(spec("nosuch"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_init_that_its_memory_limit_killed_says_so(box: Box) -> None:
    wanted = spec("true")
    assert wanted.linux is not None
    assert wanted.linux.resources is not None
    wanted.linux.resources.memory = LinuxMemory(limit=400 << 10, swap=400 << 10)
    with pytest.raises(InvalidArgument, match="container init was OOM-killed"):
        box.run(wanted)
    assert left_behind(box) == []


def test_an_init_that_is_killed_is_an_error(box: Box) -> None:
    wanted = spec("true")
    assert wanted.linux is not None
    kinds = [each for each in wanted.linux.namespaces if each.type != "pid"]
    wanted.linux.namespaces = kinds  # the first process of a pid namespace cannot be killed inside
    wanted.hooks = Hooks(create_container=[hook(box, "kill -9 $PPID")])
    with pytest.raises(Internal, match="init was killed before it could start the program"):
        box.run(wanted)
    assert left_behind(box) == []


def test_a_caller_with_many_descriptors_starts_containers(box: Box) -> None:
    """select(2) knows no descriptor above 1023: nothing here may use it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(1200)]
    null = held[0]
    try:
        request = LaunchRequest(
            id="many",
            spec=spec("true"),
            root=str(box.root),
            cgroup=f"/{box.name}",
            stdio=(null, null, null),
        )
        launched = launching.launch(request).finish()
        assert os.waitpid(launched.pid, 0)[1] == 0
        launched.pidfd.close()
        open_cgroup(f"/{box.name}").remove()
        with pytest.raises(CommandNotFound):
            launching.launch(dataclasses.replace(request, spec=spec("nosuch"))).finish()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- terminal --------------------------------------------------------------------------------


def test_a_terminal_belongs_to_the_container(box: Box) -> None:
    wanted = spec(
        "sh", "-c", "tty; ls -la /dev/console; stty size; echo >/dev/tty end", terminal=True
    )
    assert wanted.process is not None
    wanted.process.console_size = ConsoleSize(height=33, width=101)
    running = box.start(wanted)
    assert running.launched.master is not None
    text = tty_output(running.launched.master.number)
    assert "/dev/pts/0\r\n" in text
    assert "136,   0" in text
    assert "33 101\r\n" in text
    assert text.endswith("end\r\n")
    running.launched.master.close()
    running.end()
    box.running.clear()


def test_the_master_goes_to_a_console_socket(box: Box) -> None:
    path = str(box.scratch / "console.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        running = box.start(spec("sh", "-c", "echo hello", terminal=True), console_socket=path)
        assert running.launched.master is None
        peer, _ = server.accept()
        with peer:
            _, (master,), _, _ = socket.recv_fds(peer, 4096, 1)
        assert tty_output(master) == "hello\r\n"
        os.close(master)
    running.end()
    box.running.clear()


# --- life cycle ------------------------------------------------------------------------------


def create(box: Box, wanted: Spec, states: str) -> Container:
    """Create a container that waits for `start`."""
    directory = reserve(states, "c1")
    running = box.start(wanted, id="c1", state_dir=directory, hold=True, bundle="/bundle")
    os.close(running.err)
    os.close(running.out)
    return Container.load(states, "c1")


def test_a_created_container_waits_for_start(box: Box) -> None:
    states = str(box.scratch / "states")
    container = create(box, spec("sh", "-c", "exec sleep 60"), states)
    assert container.status() == "created"
    assert Path(f"/proc/{container.saved.pid}/comm").read_text() != "sleep\n"
    container.start()
    assert container.state().status == "running"
    with pytest.raises(Conflict, match="already running"):
        container.start()
    with pytest.raises(Conflict, match="is not stopped: running"):
        container.delete()
    container.pause()
    assert container.status() == "paused"
    container.resume()
    assert container.saved.pid in container.pids()
    container.delete(force=True)
    os.waitpid(container.saved.pid, 0)
    assert list(list_all(states)) == []
    assert left_behind(box) == []


def test_an_id_can_be_used_once(box: Box) -> None:
    states = str(box.scratch / "states")
    container = create(box, spec("sleep", "60"), states)
    with pytest.raises(Conflict, match="container with given ID already exists: c1"):
        reserve(states, "c1")
    # On the unified hierarchy its cgroup is refused first.
    refusal = "container with given ID already exists: c1|the cgroup has processes already"
    with pytest.raises((Conflict, InvalidArgument), match=refusal):
        box.start(spec("true"), id="c1", state_dir=container.directory)
    assert container.status() == "created"
    container.delete()
    os.waitpid(container.saved.pid, 0)


def test_a_container_that_ended_is_stopped_even_as_a_zombie(box: Box) -> None:
    states = str(box.scratch / "states")
    container = create(box, spec("true"), states)
    container.start()
    os.waitid(os.P_PID, container.saved.pid, os.WEXITED | os.WNOWAIT)
    assert container.state().status == "stopped"
    assert container.state().pid == 0
    with pytest.raises(Conflict, match="container not running"):
        container.kill(signal.SIGTERM)
    with pytest.raises(Conflict, match="has stopped"):
        container.start()
    os.waitpid(container.saved.pid, 0)
    container.delete()


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a b", "x" * 2000])
def test_ids_that_would_leave_the_state_directory_are_refused(box: Box, bad: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid container ID format"):
        reserve(str(box.scratch / "states"), bad)


def hook(box: Box, script: str, **extra: int) -> Hook:
    """Return a hook that runs a script with busybox."""
    return Hook(path="/bin/busybox", args=["sh", "-c", script], env=["PATH=/bin"], **extra)


def test_hooks_run_in_order_with_the_state_on_stdin(box: Box) -> None:
    log = box.scratch / "log"
    wanted = spec("sh", "-c", "cat /hooks")
    wanted.hooks = Hooks(
        prestart=[hook(box, f"echo prestart >>{log}; cat >>{log}; echo >>{log}")],
        create_runtime=[hook(box, f"echo createRuntime >>{log}")],
        create_container=[hook(box, f"echo createContainer >>{log}; hostname >>{log}")],
        start_container=[hook(box, "echo startContainer $$ >/hooks")],
        poststart=[hook(box, f"echo poststart >>{log}")],
    )
    ended = box.run(wanted, bundle="/bundle")
    lines = log.read_text().splitlines()
    assert lines[0] == "prestart"
    assert '"status":"creating"' in lines[1]
    assert f'"id":"{box.name}"' in lines[1]
    assert lines[2:] == ["createRuntime", "createContainer", os.uname().nodename, "poststart"]
    assert ended.out.startswith("startContainer ")


def test_a_failing_hook_stops_the_start(box: Box) -> None:
    wanted = spec("true")
    wanted.hooks = Hooks(create_runtime=[hook(box, "echo no >&2; exit 3")])
    with pytest.raises(
        InvalidArgument, match="error running createRuntime hook #0: exit status 3, output: no"
    ):
        box.run(wanted)
    assert left_behind(box) == []


def test_a_hook_that_takes_too_long_is_killed(box: Box) -> None:
    wanted = spec("true")
    wanted.hooks = Hooks(prestart=[hook(box, "exec sleep 60", timeout=1)])
    with pytest.raises(InvalidArgument, match="context deadline exceeded after 1 s"):
        box.run(wanted)
    assert left_behind(box) == []


def test_launch_returns_before_the_container_runs(box: Box) -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    request = LaunchRequest(
        id=box.name,
        spec=spec("sleep", "60"),
        root=str(box.root),
        cgroup=f"/{box.name}",
        stdio=(null, null, null),
    )
    pending = launching.launch(request)
    os.close(null)
    assert select.select([pending], [], [], 30)[0] == [pending]
    box.running.append(pending.finish())
