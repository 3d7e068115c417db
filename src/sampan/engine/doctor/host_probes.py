"""Asking the kernel what it can: each question that changes anything is put by a child process.

To be used before threads are started: a child is forked, leaves the host's namespaces, tries, and
tells the reason of its failure through a pipe.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from sampan.linux import capabilities
from sampan.linux.libc import NR, syscall
from sampan.linux.namespaces import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    KINDS,
    PIDFD_GET_INFO,
    unshare,
)
from sampan.network.firewall.firewall import Rules
from sampan.network.firewall.nftables import Nftables
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import add_bridge, add_veth
from sampan.network.sandbox import Sandbox

LONGEST: Final = 4096  # bytes of a reason
CGROUPS: Final = Path("/sys/fs/cgroup")
MOUNT_ATTR_IDMAP: Final = 0x00100000  # linux/mount.h
_V1_NAMES: Final = {"blkio": "io", "cpuacct": "", "net_cls": "", "net_prio": ""}


def tried(work: Callable[[], object]) -> str:
    """Do `work` in a child process; return "" or the reason why it failed."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        reason = _reason(work)
        with suppress(OSError):
            os.write(write, reason.encode(errors="replace")[:LONGEST])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said


def tried_together(works: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Do several works in one child process: a fork of all that a daemon is costs 3 ms of CPU.

    Return the reasons for which they failed. A work that ends the child is tried once more alone,
    as are those after it.
    """
    reasons: dict[str, str] = {}
    read, write = os.pipe()

    def all_of_them() -> None:
        for work in works.values():
            reason = _reason(work)
            os.write(write, reason.encode(errors="replace")[:LONGEST] + b"\0")

    tried(all_of_them)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode(errors="replace").split("\0")[:-1]
    for name, work in works.items():
        reasons[name] = said.pop(0) if said else tried(work)
    return reasons


def _reason(work: Callable[[], object]) -> str:
    """Do `work`; return "" or the reason why it failed."""
    try:
        work()
    except OSError as error:
        return error.strerror or str(error)
    except BaseException as error:  # noqa: BLE001 - told to the parent
        return f"{type(error).__name__}: {error}"
    return ""


def _after(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else ""


class HostProbes:
    """The probes of the host that this process runs on."""

    def is_root(self) -> bool:
        """Tell whether this is root."""
        return os.geteuid() == 0

    def capabilities(self) -> frozenset[str]:
        """Return the names of the capabilities that this process may have."""
        held = capabilities.capget().permitted & capabilities.bounding()
        return frozenset(capabilities.names(held))

    def kernel(self) -> str:
        """Return the release."""
        return os.uname().release

    def read(self, path: str) -> str:
        """Return the content of a file, "" if it is not there."""
        try:
            return Path(path).read_text(errors="replace")
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Tell whether a path exists."""
        return os.path.exists(path)

    def namespaces(self, kinds: Sequence[str]) -> dict[str, str]:
        """Try to make namespaces, one after the other in one process."""

        def make(kind: str) -> None:
            if not self.exists(f"/proc/self/ns/{KINDS[kind][1]}"):
                raise OSError(errno.EINVAL, "not in this kernel")
            unshare(KINDS[kind][0])

        return tried_together({kind: partial(make, kind) for kind in kinds})

    def system_calls(self, names: Sequence[str]) -> dict[str, str]:
        """Tell whether the kernel knows calls: asked with nonsense, it must not say ENOSYS."""

        def ask(name: str) -> None:
            try:
                syscall(NR[name], -1, None, (1 << 64) - 1, 0, 0, 0)
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    raise

        return tried_together({name: partial(ask, name) for name in names})

    def pidfd_info(self) -> str:
        """Ask for our own process."""

        def ask() -> None:
            fcntl.ioctl(os.pidfd_open(os.getpid()), PIDFD_GET_INFO, bytearray(64))

        return tried(ask)

    def library(self, name: str) -> str:
        """Load a shared library, in a child."""

        def load() -> None:
            try:
                ctypes.CDLL(name)
            except OSError as error:
                raise OSError(errno.ENOENT, f"{name} is not installed") from error

        return tried(load)

    def overlay(self) -> str:
        """Open the file system's context, which loads its module."""
        opened = tried(lambda: os.close(syscall(NR["fsopen"], b"overlay", 1)))
        return _after("no overlay file system", opened)

    def idmapped_mounts(self) -> str:
        """Tell whether mount_setattr knows id maps; it must complain of the missing namespace."""

        def ask() -> None:
            unshare(CLONE_NEWNS)
            attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_IDMAP, 0, 0, (1 << 64) - 1)
            size = ctypes.sizeof(attributes)
            try:
                syscall(NR["mount_setattr"], -100, b"/", 0, ctypes.byref(attributes), size)
            except OSError as error:
                # EINVAL: the namespace's descriptor is nonsense, or id maps are. Before Linux 5.12
                # there was no such call at all, so it is the former.
                if error.errno in (errno.ENOSYS, errno.EPERM):
                    raise

        return _after("no id-mapped mounts", tried(ask))

    def bridge(self) -> str:
        """Make a bridge in a namespace of its own."""

        def make() -> None:
            unshare(CLONE_NEWNET)
            with RouteSocket() as netlink:
                netlink.request(add_bridge("probe0", "02:42:00:00:00:01"))

        return _after("no bridge", tried(make))

    def veth(self) -> str:
        """Make a pair of interfaces between two namespaces."""

        def make() -> None:
            with Sandbox.new() as sandbox, Sandbox.new() as other:
                sandbox.request(add_veth("probe0", "probe1", other.namespace))

        return _after("no veth pair", tried(make))

    def nftables(self) -> str:
        """Write our table in a namespace of its own."""

        def write() -> None:
            unshare(CLONE_NEWNET)
            Nftables("probe").apply(Rules())

        return tried(write)

    def controllers(self) -> tuple[str, frozenset[str]]:
        """Return the layout of the cgroups, and the controllers there."""
        if (CGROUPS / "cgroup.controllers").exists():
            found = set(self.read(f"{CGROUPS}/cgroup.controllers").split())
            return "v2", frozenset(found)
        names = [path.name for path in CGROUPS.iterdir()] if CGROUPS.is_dir() else []
        found = {
            _V1_NAMES.get(part, part)
            for name in names
            if (CGROUPS / name / "cgroup.procs").exists() and name not in ("unified", "systemd")
            for part in name.split(",")
        } - {""}
        unified = self.read(f"{CGROUPS}/unified/cgroup.controllers").split()
        if not found and not unified:
            return "none", frozenset()
        is_hybrid = (CGROUPS / "unified" / "cgroup.procs").exists()
        return "hybrid" if is_hybrid else "v1", frozenset(found | set(unified))

    def file_system(self, path: str) -> str:
        """Return the type of the file system that a path is, or will be, on."""
        device = os.stat(existing_folder(path)).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in self.read("/proc/self/mountinfo").splitlines():
            words = line.split()
            if words[2] == wanted:
                return words[words.index("-") + 1]
        return ""

    def free_bytes(self, path: str) -> int:
        """Return the bytes that may be written below a path."""
        about = os.statvfs(existing_folder(path))
        return about.f_bavail * about.f_frsize

    def open_files(self) -> int:
        """Return the hard limit of open files."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return hard if hard != resource.RLIM_INFINITY else 1 << 30


def existing_folder(path: str) -> Path:
    """Return the nearest folder to a path that is there already."""
    folder = Path(path).absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
