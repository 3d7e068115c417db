"""A busybox root file system and real containers on it, for tests of the runtime."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.runtime.starting import launch as launching
from sampan.runtime.starting.launch import ExecRequest, Launched, LaunchRequest
from sampan.spec.runtime import (
    Linux,
    LinuxCapabilities,
    LinuxDeviceCgroup,
    LinuxNamespace,
    LinuxResources,
    Mount,
    Process,
    Root,
    Spec,
)
from tests import busybox
from tests.session import eventually, unique

CAPABILITIES = [
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
        "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
]
MASKED = (
    "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats "
    "/proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats "
    "/sys/devices/virtual/powercap /sys/firmware"
).split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def mounts() -> list[Mount]:
    """Return the mounts that Docker gives every container."""
    rows = (
        ("/proc", "proc", "nosuid noexec nodev"),
        ("/dev", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        ("/dev/pts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        ("/sys", "sysfs", "nosuid noexec nodev ro"),
        ("/sys/fs/cgroup", "cgroup", "ro nosuid noexec nodev"),
        ("/dev/mqueue", "mqueue", "nosuid noexec nodev"),
        ("/dev/shm", "tmpfs", "nosuid noexec nodev mode=1777 size=65536k"),
    )
    return [
        Mount(destination=where, type=kind, source=kind, options=options.split())
        for where, kind, options in rows
    ]


def spec(*args: str, **process: Any) -> Spec:
    """Return a specification like Docker's default one."""
    capabilities = LinuxCapabilities(
        bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES
    )
    process.setdefault("capabilities", capabilities)
    process.setdefault("env", ["PATH=/bin", "TERM=xterm"])
    kinds = ("mount", "network", "uts", "pid", "ipc")
    allowed = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None)]
    rules = [
        LinuxDeviceCgroup(allow=False, access="rwm"),
        LinuxDeviceCgroup(allow=True, type="c", access="m"),
        *(
            LinuxDeviceCgroup(allow=True, type="c", major=major, minor=minor, access="rwm")
            for major, minor in allowed
        ),
    ]
    return Spec(
        process=Process(args=list(args), **process),
        root=Root(),
        hostname="box",
        mounts=mounts(),
        linux=Linux(
            namespaces=[LinuxNamespace(type=kind) for kind in kinds],  # type: ignore[arg-type]
            resources=LinuxResources(devices=rules),
            masked_paths=MASKED,
            readonly_paths=READ_ONLY,
        ),
    )


@dataclass
class Ended:
    """What a container did."""

    code: int
    out: str
    err: str
    warnings: list[str]

    @property
    def lines(self) -> list[str]:
        """The lines of its standard output."""
        return self.out.splitlines()


@dataclass
class Running:
    """A container or exec that runs, with the read ends of its streams."""

    launched: Launched
    out: int
    err: int

    def becomes(self, program: str) -> None:
        """Wait until its first process has executed a program."""
        comm = Path(f"/proc/{self.launched.pid}/comm")
        eventually(lambda: comm.read_text() == f"{program}\n")

    def end(self) -> Ended:
        """Wait for its end; return all that it wrote."""
        out, err = _drain(self.out, self.err)
        _, status = os.waitpid(self.launched.pid, 0)
        self.launched.pidfd.close()
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, out, err, self.launched.warnings)


@dataclass
class Box:
    """A root file system with busybox in it."""

    root: Path
    scratch: Path
    name: str = field(default_factory=unique)
    running: list[Launched] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path) -> Box:
        """Fill a folder."""
        root = folder / "rootfs"
        busybox.fill(root)
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
        folder.chmod(0o755)
        return cls(root, folder)

    def start(self, wanted: Spec, **request: Any) -> Running:
        """Start a container; its stdin is /dev/null."""
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        request.setdefault("root", str(self.root))
        request.setdefault("cgroup", f"/{self.name}")
        request.setdefault("id", self.name)
        request.setdefault("stdio", (null, out[1], err[1]))
        try:
            launched = launching.launch(LaunchRequest(spec=wanted, **request)).finish()
        except BaseException:
            os.close(out[0])
            os.close(err[0])
            raise
        finally:
            for fd in (null, out[1], err[1]):
                os.close(fd)
        self.running.append(launched)
        return Running(launched, out[0], err[0])

    def run(self, wanted: Spec, **request: Any) -> Ended:
        """Run a container to its end, and remove its cgroup."""
        ended = self.start(wanted, **request).end()
        self.running.clear()
        open_cgroup(f"/{self.name}").remove()
        return ended

    def shell(self, script: str, **process: Any) -> Ended:
        """Run a shell script in a container like Docker's default one."""
        return self.run(spec("sh", "-c", script, **process))

    def exec(self, container: Running, process: Process, **request: Any) -> Running:
        """Start one more process in a running container."""
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        request.setdefault("cgroup", f"/{self.name}")
        request.setdefault("stdio", (null, out[1], err[1]))
        wanted = ExecRequest(id=self.name, process=process, pid=container.launched.pid, **request)
        try:
            launched = launching.launch_exec(wanted).finish()
        except BaseException:
            os.close(out[0])
            os.close(err[0])
            raise
        finally:
            for fd in (null, out[1], err[1]):
                os.close(fd)
        return Running(launched, out[0], err[0])

    def close(self) -> None:
        """End what still runs and remove the cgroup."""
        for launched in self.running:
            if launched.pidfd.number < 0:
                continue  # it was waited for: its pid may be somebody else's by now
            with suppress(ProcessLookupError):
                os.kill(launched.pid, 9)
            with suppress(ChildProcessError):
                os.waitpid(launched.pid, 0)
            launched.pidfd.close()
            if launched.master is not None:
                launched.master.close()
        with suppress(OSError):
            open_cgroup(f"/{self.name}").remove()
        launching.reap_helpers()


def _drain(*fds: int) -> list[str]:
    """Read descriptors to their ends and close them."""
    contents = dict.fromkeys(fds, b"")
    left = list(fds)
    while left:
        for fd in select.select(left, [], [])[0]:
            try:
                chunk = os.read(fd, 65536)
            except OSError:  # a terminal whose other side is closed
                chunk = b""
            contents[fd] += chunk
            if not chunk:
                left.remove(fd)
                os.close(fd)
    return [contents[fd].decode("utf-8", "replace") for fd in fds]


def tty_output(master: int) -> str:
    """Read a terminal to its end; the descriptor stays open."""
    return _drain(os.dup(master))[0]
