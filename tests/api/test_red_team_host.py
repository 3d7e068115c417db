"""A hostile container reaches for the host: what its inodes, devices and kernel files are.

Every row of docs/explanation/security.md names its test. Scripts run as root in a container.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tarballs
from tests.daemon import Daemon
from tests.inside import execute, run, started
from tests.session import eventually

pytestmark = pytest.mark.privileged


@pytest.fixture
def null_mode() -> Iterator[int]:
    """The mode and owner of /dev/null, which are put back if a container could change them."""
    before = os.stat("/dev/null")
    yield before.st_mode
    os.chmod("/dev/null", before.st_mode & 0o7777)
    os.chown("/dev/null", before.st_uid, before.st_gid)


@pytest.mark.parametrize("path", ["/proc/keys", "/proc/self/fd/0", "/dev/null"])
def test_the_null_device_of_the_host_keeps_its_mode(
    daemon: Daemon, null_mode: int, path: str
) -> None:
    """Masks and streams are that device: with its node, root here would break it for the host."""
    script = f"chmod 0667 {path}; chown 1:1 {path}; touch -t 197001010000 {path}; echo tried"
    before = os.stat("/dev/null").st_mtime_ns
    assert run(daemon, script).out == "tried\n"
    with started(daemon, "sleep 1000") as container:
        assert execute(daemon, container, script).out == "tried\n"
    now = os.stat("/dev/null")
    assert (now.st_mode, now.st_uid, now.st_gid) == (null_mode, 0, 0)
    assert now.st_mtime_ns == before


def test_masks_and_streams_of_null_are_that_device(daemon: Daemon) -> None:
    """A mask can be read (AppArmor's profile forbids to write to it), and a stream written to."""
    script = "cat /proc/keys /proc/self/fd/0 && echo y >/proc/self/fd/0 && echo ok"
    assert run(daemon, script).out == "ok\n"
    assert (
        run(daemon, "stat -c %t:%T /proc/keys; stat -Lc %t:%T /proc/self/fd/0").lines == ["1:3"] * 2
    )


# --- kernel files, namespaces, control groups ----------------------------------------------------

KERNEL_FILES = (
    "/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/sysrq"
    " /proc/sys/vm/panic_on_oom /proc/sys/fs/binfmt_misc/register /proc/sysrq-trigger /proc/irq/1/x"
    " /proc/bus/x /proc/fs/x /sys/kernel/uevent_helper /sys/kernel/vmcoreinfo /sys/power/state"
    " /sys/fs/cgroup/release_agent /sys/module/x"
).split()


@pytest.mark.parametrize("options", [{}, {"PidMode": "host"}, {"CapAdd": ["NET_ADMIN"]}])
def test_no_file_of_the_kernel_is_written(daemon: Daemon, options: dict[str, Any]) -> None:
    """core_pattern, modprobe and uevent_helper name programs that the kernel runs as root."""
    script = f"for f in {' '.join(KERNEL_FILES)}; do (echo x >>$f) 2>/dev/null && echo $f; done"
    assert run(daemon, script, **options).out == ""


@pytest.mark.parametrize(
    "attempt",
    [
        "umount /proc/keys",
        "umount /proc/sys",
        "umount /sys/firmware",
        "mount -o remount,rw /sys",
        "mount -o remount,rw /proc/sys",
        "mount -o remount,rw /sys/fs/cgroup",
        "mount -t proc proc /home",
        "mount -t cgroup -o pids cgroup /home",
        "mount -t cgroup2 cgroup /home",
        "mount --bind / /home",
        "unshare -m true",
        "unshare -U true",
        "unshare -r -m true",
        "nsenter -t 1 -m true",
        "chroot /proc/1/root /bin/umount /proc/keys",
        "pivot_root / /home",
        "swapoff -a && swapon /etc/passwd",
        "insmod /etc/passwd",
        "reboot -f",
        "dmesg",
        "ip link set lo down",
    ],
)
def test_what_would_undo_the_confinement_is_refused(daemon: Daemon, attempt: str) -> None:
    seen = run(daemon, attempt)
    assert seen.code != 0, seen


@pytest.mark.kernel
@pytest.mark.parametrize("options", [{}, {"CgroupnsMode": "host"}, {"CgroupnsMode": "private"}])
def test_cve_2022_0492_no_release_agent_is_in_reach(
    daemon: Daemon, options: dict[str, Any]
) -> None:
    script = "find /sys/fs/cgroup -name release_agent; unshare -UrmC true 2>/dev/null && echo in"
    assert run(daemon, script, **options).out == ""
    writable = {**options, "SecurityOpt": ["writable-cgroups"]}
    assert run(daemon, script, **writable).out == ""


@pytest.mark.kernel
@pytest.mark.parametrize("options", [{}, {"SecurityOpt": ["writable-cgroups"]}])
def test_no_device_of_the_host_is_opened(daemon: Daemon, options: dict[str, Any]) -> None:
    """A node can be made, and its device not be opened; nor can the list of devices be changed."""
    disk = os.stat("/").st_dev
    script = (
        f"mknod /disk b {os.major(disk)} {os.minor(disk)}; mknod /mem c 1 1; mknod /kmsg c 1 11;"
        " for d in /sys/fs/cgroup/devices /sys/fs/cgroup; do echo a >$d/devices.allow; done;"
        " for n in disk mem kmsg; do dd if=/$n of=/dev/zero bs=1 count=1 && echo $n; done"
    )
    assert run(daemon, f"({script}) 2>/dev/null", **options).out == ""
    with started(daemon, "sleep 1000", **options) as container:
        assert execute(daemon, container, f"({script}) 2>/dev/null").out == ""


def test_a_node_that_is_copied_in_is_not_opened_either(daemon: Daemon) -> None:
    disk = os.stat("/").st_dev
    node = tarballs.raw(b"disk", b"4", mode=b"0000666", device=(os.major(disk), os.minor(disk)))
    with started(daemon, "sleep 1000") as container:
        archive = tarballs.archive(node)
        path = f"/containers/{container}/archive?path=/tmp"
        answer = daemon.request("PUT", path, archive, {"Content-Type": "application/x-tar"})
        assert answer.status in (200, 400), answer.body
        seen = execute(daemon, container, "dd if=/tmp/disk of=/dev/zero bs=1 count=1")
        assert seen.code != 0


# --- sockets, keys, folders of ours ---------------------------------------------------------------


def test_cve_2020_15257_no_abstract_socket_of_ours_is_there(daemon: Daemon) -> None:
    """Containers of the host's network reach those; ours have paths, modes, and look who asks."""
    with started(daemon, "sleep 1000", NetworkMode="host") as container:
        seen = execute(daemon, container, "cat /proc/net/unix")
        assert seen.lines[0].startswith("Num")
        assert [line for line in seen.lines if "@" in line] == []


def test_the_sockets_of_the_engine_are_for_its_user_and_group(daemon: Daemon) -> None:
    for path in (daemon.socket, str(daemon.folder / "exec/spawner.sock")):
        for uid in (65534, 1000, 200000):
            assert as_user(uid, lambda path=path: socket.socket(socket.AF_UNIX).connect(path))


@pytest.mark.parametrize("uid", [1000, 65534, 200000])
def test_cve_2021_41091_nobody_enters_the_data_root(daemon: Daemon, uid: int) -> None:
    """A user of the host would execute set-user-ID programs of containers, by their paths."""
    with started(daemon, "chmod 4755 /bin/busybox; sleep 1000") as container:
        found = [str(daemon.data_root / "containers" / container / "hosts")]
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            found += [word for word in file.read().split() if str(daemon.data_root) in word]
        found += [str(path) for path in daemon.snapshots.rglob("bin/busybox")]
        assert len(found) > 1
        for path in found:
            assert as_user(uid, lambda path=path: os.stat(path))


def as_user(uid: int, attempt: Callable[[], object]) -> bool:
    """Tell whether the attempt is refused to a user of the host."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            attempt()
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_keys_of_the_host_are_out_of_reach(daemon: Daemon) -> None:
    """The session keyring is the container's own, whatever filter it has."""
    first, second = (
        run(daemon, "grep -o ' _ses[.][0-9a-f]*' /proc/keys", Privileged=True) for _ in range(2)
    )
    assert first.out
    assert first.out != second.out
    assert run(daemon, "cat /proc/keys", CapAdd=["ALL"]).out == ""


# --- copies ---------------------------------------------------------------------------------------


def test_cve_2021_41089_a_copy_changes_no_mode_outside(daemon: Daemon, tmp_path: Path) -> None:
    """`docker cp` made folders on the way, with modes, also where a link had led out."""
    tmp_path.chmod(0o700)
    inside = tarballs.folder("sub", 0o777) + tarballs.file("sub/x", b"x", 0o777)
    script = f"ln -s /../../../../..{tmp_path} /out; ln -s ../../../..{tmp_path} /up; sleep 1000"
    with started(daemon, script) as container:
        eventually(lambda: execute(daemon, container, "test -L /up").code == 0)
        for path in ("/out", "/up", "/out/sub", "/proc/1/root/..", "/proc/1/cwd"):
            query = f"/containers/{container}/archive?path={path}"
            archive = tarballs.archive(inside)
            daemon.request("PUT", query, archive, {"Content-Type": "application/x-tar"})
            daemon.request("GET", query)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []
