"""Namespaces of containers: new ones, joined ones, and what is written into them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import Conflict, InvalidArgument
from sampan.linux.cgroups.hierarchy import detect
from sampan.linux.namespaces import KINDS
from sampan.spec.runtime import (
    LinuxIDMapping,
    LinuxNamespace,
    LinuxTimeOffset,
    Process,
    Spec,
)
from tests.box import Box, Running, spec

pytestmark = pytest.mark.privileged

ALL = ("mount", "network", "uts", "pid", "ipc", "user", "cgroup", "time")
MAP = [LinuxIDMapping(container_id=0, host_id=300000, size=65536)]


def with_namespaces(script: str, **paths: str) -> Spec:
    """Return a specification with these namespaces: "" is a new one."""
    wanted = spec("sh", "-c", script)
    assert wanted.linux is not None
    wanted.linux.namespaces = [
        LinuxNamespace(type=kind, path=path)  # type: ignore[arg-type]
        for kind, path in paths.items()
    ]
    if "user" in paths and not paths["user"]:
        wanted.linux.uid_mappings = wanted.linux.gid_mappings = MAP
    if "uts" not in paths:
        wanted.hostname = ""
    return wanted


def own(kind: str) -> str:
    """Return our own namespace of a kind."""
    return os.readlink(f"/proc/self/ns/{KINDS[kind][1]}")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[Box, Running]]:
    """Another container, whose namespaces are joined."""
    folder = tmp_path / "other"
    folder.mkdir()
    box = Box.make(folder)
    running = box.start(with_namespaces("echo up; exec sleep 60", **dict.fromkeys(ALL[:5], "")))
    assert os.read(running.out, 3) == b"up\n"
    running.becomes("sleep")
    yield box, running
    os.close(running.out)
    os.close(running.err)
    box.close()


@pytest.mark.parametrize("kind", ALL)
def test_each_namespace_can_be_new(box: Box, kind: str) -> None:
    new = dict.fromkeys(("mount", kind), "")
    wanted = with_namespaces(f"readlink /proc/self/ns/{KINDS[kind][1]}", **new)
    wanted.mounts = [mount for mount in wanted.mounts if mount.destination != "/dev/mqueue"]
    assert box.run(wanted).out.strip() not in ("", own(kind))


@pytest.mark.parametrize("kind", ["network", "uts", "ipc", "cgroup"])
def test_a_namespace_that_is_not_named_is_that_of_the_host(box: Box, kind: str) -> None:
    wanted = with_namespaces(f"readlink /proc/self/ns/{KINDS[kind][1]}", mount="", pid="")
    wanted.mounts = [mount for mount in wanted.mounts if mount.destination != "/dev/mqueue"]
    assert box.run(wanted).out.strip() == own(kind)


def test_all_eight_can_be_new_at_once(box: Box) -> None:
    os.chown(box.root, 300000, 300000)
    script = "; ".join(f"readlink /proc/self/ns/{KINDS[kind][1]}" for kind in ALL)
    lines = box.run(with_namespaces(script, **dict.fromkeys(ALL, ""))).lines
    assert len(set(lines)) == 8
    assert not set(lines) & {own(kind) for kind in ALL}


@pytest.mark.parametrize("kind", ["network", "uts", "pid", "ipc"])
def test_each_namespace_can_be_joined_by_path(
    box: Box, other: tuple[Box, Running], kind: str
) -> None:
    pid = other[1].launched.pid
    path = f"/proc/{pid}/ns/{KINDS[kind][1]}"
    new = {each: "" for each in ALL[:5] if each != kind}
    wanted = with_namespaces(f"readlink /proc/self/ns/{KINDS[kind][1]}", **new, **{kind: path})
    wanted.hostname = ""
    assert box.run(wanted).out.strip() == os.readlink(path)


def test_a_joined_pid_namespace_shows_both_containers(box: Box, other: tuple[Box, Running]) -> None:
    wanted = with_namespaces("cat /proc/*/comm; echo $$", **dict.fromkeys(ALL[:5], ""))
    lines = box.run(wanted, pull_in={"pid": other[1].launched.pid}).lines
    assert lines[0] == "sleep"
    assert lines[-1] != "1"


@pytest.mark.parametrize("kind", ["pid", "ipc", "network"])
def test_a_number_that_is_somebody_elses_by_now_is_not_joined(box: Box, kind: str) -> None:
    """The container that was to be joined has ended, and its pid is that of a process of ours."""
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    pidfd = os.pidfd_open(ended)
    os.waitpid(ended, 0)
    try:
        with pytest.raises(Conflict, match="cannot join a namespace of a non running container"):
            box.run(spec("true"), pull_in={kind: os.getpid()}, donors={os.getpid(): pidfd})
    finally:
        os.close(pidfd)


def test_the_network_namespace_of_the_request_is_joined(
    box: Box, other: tuple[Box, Running]
) -> None:
    path = f"/proc/{other[1].launched.pid}/ns/net"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        ended = box.run(spec("readlink", "/proc/self/ns/net"), network=fd)
    finally:
        os.close(fd)
    assert ended.out.strip() == os.readlink(path)


def test_a_new_user_namespace_goes_with_a_joined_network(
    box: Box, other: tuple[Box, Running]
) -> None:
    os.chown(box.root, 300000, 300000)
    path = f"/proc/{other[1].launched.pid}/ns/net"
    new = {kind: "" for kind in ALL[:6] if kind != "network"}
    wanted = with_namespaces("readlink /proc/self/ns/net; id -u", network=path, **new)
    assert box.run(wanted).lines == [os.readlink(path), "0"]


def test_the_namespaces_of_a_container_with_a_user_namespace_can_be_joined(
    box: Box, tmp_path: Path
) -> None:
    folder = tmp_path / "owner"
    folder.mkdir()
    owner = Box.make(folder)
    for each in (owner, box):
        os.chown(each.root, 300000, 300000)
    running = owner.start(with_namespaces("echo up; exec sleep 60", **dict.fromkeys(ALL[:6], "")))
    try:
        assert os.read(running.out, 3) == b"up\n"
        base = f"/proc/{running.launched.pid}/ns"
        paths = {kind: f"{base}/{KINDS[kind][1]}" for kind in ("user", "network", "ipc", "pid")}
        wanted = with_namespaces(
            "readlink /proc/self/ns/user; readlink /proc/self/ns/net; id -u", mount="", **paths
        )
        lines = box.run(wanted).lines
        assert lines == [os.readlink(paths["user"]), os.readlink(paths["network"]), "0"]
    finally:
        os.close(running.out)
        os.close(running.err)
        owner.close()


def test_the_loopback_interface_of_a_new_network_is_up(box: Box) -> None:
    assert "UP" in box.shell("ip link show lo").out


def test_clocks_are_offset(box: Box) -> None:
    wanted = with_namespaces("cut -d. -f1 /proc/uptime", mount="", pid="", time="")
    assert wanted.linux is not None
    wanted.linux.time_offsets = {"boottime": LinuxTimeOffset(secs=1000000)}
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 999990 < int(box.run(wanted).out) - uptime < 1000100


def test_an_unknown_clock_is_refused(box: Box) -> None:
    wanted = with_namespaces("true", mount="", time="")
    assert wanted.linux is not None
    wanted.linux.time_offsets = {"realtime": LinuxTimeOffset(secs=1)}
    with pytest.raises(InvalidArgument, match='invalid time offset "realtime"'):
        box.run(wanted)


def test_a_cgroup_namespace_starts_at_the_containers_own_group(box: Box) -> None:
    wanted = with_namespaces("cat /proc/self/cgroup", **dict.fromkeys((*ALL[:5], "cgroup"), ""))
    paths = {line.split(":", 2)[2] for line in box.run(wanted).lines}
    assert "/" in paths
    assert not any(box.name in path for path in paths)


def test_the_cgroup_mount_shows_only_the_containers_own_group(box: Box) -> None:
    if detect().version == 2:
        ended = box.shell("cat /sys/fs/cgroup/cgroup.procs")
    else:
        ended = box.shell("cat /sys/fs/cgroup/memory/cgroup.procs")
    assert "1" in ended.lines


def test_host_and_domain_name_are_set(box: Box) -> None:
    wanted = spec("sh", "-c", "hostname; cat /proc/sys/kernel/domainname")
    wanted.hostname, wanted.domainname = "some-name", "some.domain"
    assert box.run(wanted).lines == ["some-name", "some.domain"]
    assert os.uname().nodename != "some-name"


def test_a_host_name_needs_a_uts_namespace(box: Box) -> None:
    wanted = with_namespaces("true", mount="", pid="")
    wanted.hostname = "x"
    with pytest.raises(InvalidArgument, match="without a private UTS namespace"):
        box.run(wanted)


@pytest.mark.parametrize(
    ("name", "value", "file"),
    [
        ("net.ipv4.ip_forward", "1", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/lo.1/rp_filter", "", ""),
        ("kernel.shm_rmid_forced", "1", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "17", "fs/mqueue/msg_max"),
    ],
)
def test_sysctls_of_the_containers_namespaces_are_written(
    box: Box, name: str, value: str, file: str
) -> None:
    wanted = spec("cat", f"/proc/sys/{file}")
    assert wanted.linux is not None
    wanted.linux.sysctl = {name: value}
    if not file:
        with pytest.raises(InvalidArgument, match="failed to write sysctl"):
            box.run(wanted)
        return
    before = Path(f"/proc/sys/{file}").read_text()
    assert box.run(wanted).out.strip() == value
    assert Path(f"/proc/sys/{file}").read_text() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kernel.core_pattern", "is not in a separate kernel namespace"),
        ("vm.swappiness", "is not in a separate kernel namespace"),
        ("kernel.hostname", "conflicts with OCI field"),
        ("net.ipv4.ip_forward", "not allowed in host network namespace"),
        ("net/../kernel/core_pattern", "invalid sysctl"),
    ],
)
def test_sysctls_of_the_host_are_refused(box: Box, name: str, message: str) -> None:
    wanted = with_namespaces("true", mount="", pid="", uts="", ipc="")
    assert wanted.linux is not None
    wanted.linux.sysctl = {name: "1"}
    with pytest.raises(InvalidArgument, match=message):
        box.run(wanted)


def test_a_namespace_path_that_is_none_is_refused(box: Box) -> None:
    for path in ("/etc/passwd", "/no/such"):
        with pytest.raises(InvalidArgument):
            box.run(with_namespaces("true", mount="", network=path))


def test_a_namespace_named_twice_is_refused(box: Box) -> None:
    wanted = spec("true")
    assert wanted.linux is not None
    wanted.linux.namespaces.append(LinuxNamespace(type="pid"))
    with pytest.raises(InvalidArgument, match="duplicated ns"):
        box.run(wanted)


def test_the_end_of_init_ends_every_process_of_its_pid_namespace(box: Box) -> None:
    running = box.start(spec("sh", "-c", "sleep 60 & echo up; exec sleep 60"))
    assert os.read(running.out, 3) == b"up\n"
    extra = box.exec(running, Process(args=["sleep", "60"], env=["PATH=/bin"]))
    os.kill(running.launched.pid, signal.SIGKILL)
    assert extra.end().code == -signal.SIGKILL
    assert running.end().code == -signal.SIGKILL  # reads to the end: nobody holds the streams
    box.running.clear()
