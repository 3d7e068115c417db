"""A process, checked and encoded."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sampan.errors import CommandNotExecutable, CommandNotFound, InvalidArgument
from sampan.runtime.starting import execution, program
from sampan.runtime.starting.channel import ERROR, Channel
from sampan.spec.runtime import IOPriority, LinuxPersonality, Process, Rlimit, Scheduler, User


def prepared(*args: str, **more: object) -> program.Program:
    return program.prepare(Process(args=list(args), **more), filter=None)[0]  # type: ignore[arg-type]


def test_everything_is_bytes() -> None:
    result = prepared("echo", "ü", env=["A=ö=", "A=1", "B="], cwd="/ä")
    assert result.argv == [b"echo", "ü".encode()]
    assert result.env == {b"A": b"1", b"B": b""}
    assert result.cwd == "/ä".encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cwd": ""}, "Cwd must be an absolute path"),
        ({"env": ["=x"]}, "name cannot be empty"),
        ({"user": User(additional_gids=[1 << 40])}, "must be in range"),
        ({"scheduler": Scheduler(policy="SCHED_TEA")}, 'invalid scheduler policy: "SCHED_TEA"'),
        ({"scheduler": Scheduler(policy="SCHED_RR", flags=["X"])}, 'invalid scheduler flag: "X"'),
        ({"io_priority": IOPriority(cls="X")}, 'invalid ioPriority.class: "X"'),
        ({"io_priority": IOPriority(cls="IOPRIO_CLASS_BE", priority=8)}, "invalid ioPriority"),
        ({"rlimits": [Rlimit(type="RLIMIT_CPU", soft=1, hard=1)] * 2}, "more than once"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        prepared("true", **change)


def test_an_unknown_personality_is_refused() -> None:
    for wanted in (LinuxPersonality(domain="VMS"), LinuxPersonality(domain="LINUX", flags=["X"])):
        with pytest.raises(InvalidArgument, match="personality"):
            program.prepare(Process(args=["x"]), filter=None, personality=wanted)


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").touch()
        (tmp_path / name / "tool").chmod(mode)
    path = f"PATH=relative::{tmp_path}/first:{tmp_path}/second"
    assert execution.look_up(prepared("tool", env=[path])) == os.fsencode(tmp_path / "second/tool")
    with pytest.raises(CommandNotFound, match=r'exec: "none": executable file not found in \$PATH'):
        execution.look_up(prepared("none", env=[path]))
    with pytest.raises(CommandNotExecutable, match="permission denied"):
        execution.look_up(prepared(f"{tmp_path}/first/tool", env=[path]))
    with pytest.raises(CommandNotFound, match="no such file or directory"):
        execution.look_up(prepared(f"{tmp_path}/x", env=[path]))
    with pytest.raises(CommandNotExecutable, match="is a directory"):
        execution.look_up(prepared(str(tmp_path), env=[path]))


def test_home_is_looked_up_only_if_it_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("u:x:7:7::/home/u:/bin/sh\n")
    root = os.open(tmp_path, os.O_PATH)
    for user, env, home in ((7, [], b"/home/u"), (8, [], b"/"), (7, ["HOME=/h"], b"/h")):
        result = prepared("x", user=User(uid=user), env=env)
        program.set_home(result, root)
        assert result.env[b"HOME"] == home
    os.close(root)


@pytest.mark.parametrize("switch", ["N\n", None])
def test_apparmor_is_off_where_only_its_module_is_there(
    switch: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if switch:
        (tmp_path / "enabled").write_text(switch)
    monkeypatch.setattr(program, "APPARMOR_SWITCH", str(tmp_path / "enabled"))
    assert program.prepare(Process(args=["x"], apparmor_profile="unconfined"), filter=None)[1] == []
    result, warnings = program.prepare(Process(args=["x"], apparmor_profile="p"), filter=None)
    assert result.apparmor == b""
    assert warnings == ["AppArmor is not on: the profile p is ignored"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOENT, "my-profile: it is not loaded"), (errno.EACCES, "my-profile: permission")],
)
def test_a_profile_that_cannot_be_applied_is_named(
    number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(program, "APPARMOR_SWITCH", str(tmp_path / "enabled"))

    def refuse(proc: int, path: bytes, value: bytes) -> None:
        assert value == b"exec my-profile"
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("sampan.linux.paths.write_proc", refuse)
    with pytest.raises(InvalidArgument, match=f"unable to apply apparmor profile: .*{reason}"):
        execution.label(prepared("x", apparmor_profile="my-profile"), -1)


LABEL = "system_u:system_r:container_t:s0:c1,c2"


def test_a_label_is_written_where_the_kernel_has_selinux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(
        "sampan.linux.paths.write_proc", lambda proc, path, value: written.append((path, value))
    )
    monkeypatch.setattr(program, "SELINUX_SWITCH", str(tmp_path / "enforce"))
    result, warnings = program.prepare(Process(args=["x"], selinux_label=LABEL), filter=None)
    assert warnings == [f"this kernel has no SELinux: the label {LABEL} is ignored"]
    execution.label(result, -1)
    (tmp_path / "enforce").write_text("0")
    execution.label(prepared("x", selinux_label=LABEL), -1)
    assert written == [(b"self/attr/exec", LABEL.encode())]


def test_a_label_that_the_policy_does_not_know_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "enforce").write_text("1")
    monkeypatch.setattr(program, "SELINUX_SWITCH", str(tmp_path / "enforce"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("sampan.linux.paths.write_proc", refuse)
    with pytest.raises(InvalidArgument, match=f"unable to apply SELinux label: {LABEL}: invalid"):
        execution.label(prepared("x", selinux_label=LABEL), -1)


def test_errors_cross_the_channel_whole() -> None:
    ours, theirs = Channel.pair()
    theirs.fail(CommandNotFound("exec: ü"))
    assert ours.receive() == (ERROR, "command_not_found\0exec: ü".encode(), -1)
    theirs.fail(OSError(errno.EIO, "boom"))
    assert ours.receive()[1].startswith(b"internal\0OSError")
    theirs.close()
    assert ours.receive() == (b"", b"", -1)
    ours.close()


def test_a_descriptor_travels_beside_a_packet() -> None:
    ours, theirs = Channel.pair()
    read, write = os.pipe()
    theirs.send(b"p", b"text", write)
    tag, text, fd = ours.receive()
    assert (tag, text) == (b"p", b"text")
    assert not os.get_inheritable(fd)
    os.write(fd, b"x")
    assert os.read(read, 1) == b"x"
    for number in (read, write, fd):
        os.close(number)
    ours.close()
    theirs.close()
