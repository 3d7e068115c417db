"""state.json: what must be known of a container on disk, in one small file per container.

Whether it runs is not in the file but asked of the kernel: pid and start time name a process for
ever, and a fifo that exists says that `start` is still to come.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict, Internal, NotFound
from sampan.linux import process
from sampan.spec.runtime import Hook, LinuxSeccomp

if TYPE_CHECKING:
    from sampan.runtime.starting.requests import LaunchRequest

FILE, FIFO = "state.json", "exec.fifo"
LIMIT = 4 << 20  # bytes of a state.json: no honest one comes near


class SavedState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One container, as it is written at its creation."""

    id: str
    oci_version: str
    pid: int
    start_time: int  # clock ticks after boot
    created: int  # nanoseconds since the epoch
    bundle: str = ""
    rootfs: str = ""
    cgroup: str = ""
    systemd_cgroup: bool = False
    owner: int = 0
    annotations: dict[str, str] = {}
    poststart: list[Hook] = []
    poststop: list[Hook] = []
    seccomp: LinuxSeccomp | None = None  # for exec


def claim(directory: str) -> None:
    """Make a state directory if need be; Conflict if another container's state is in it."""
    os.makedirs(directory, mode=0o711, exist_ok=True)
    if any(os.path.lexists(os.path.join(directory, name)) for name in (FILE, FIFO)):
        raise Conflict(f"container with given ID already exists: {os.path.basename(directory)}")


def make_fifo(directory: str) -> int:
    """Make the fifo on which a created container waits, and return a descriptor for its init."""
    path = os.path.join(directory, FIFO)
    os.mkfifo(path, 0o600)
    # Open for both, so that neither end ever waits in open(2) or sees an end of file.
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)


def save(request: LaunchRequest, pid: int, created: int) -> None:
    """Write state.json, whole or not at all."""
    spec = request.spec
    try:
        started = process.start_time(pid)
    except FileNotFoundError:
        started = 0  # it has ended already
    saved = SavedState(
        id=request.id,
        oci_version=spec.oci_version,
        pid=pid,
        start_time=started,
        created=created,
        bundle=request.bundle,
        rootfs=request.root if isinstance(request.root, str) else "",
        cgroup=request.cgroup,
        systemd_cgroup=request.systemd_cgroup,
        owner=os.geteuid(),
        annotations=spec.annotations,
        poststart=spec.hooks.poststart if spec.hooks else [],
        poststop=spec.hooks.poststop if spec.hooks else [],
        seccomp=spec.linux.seccomp if spec.linux and request.keep_seccomp else None,
    )
    path = os.path.join(request.state_dir, FILE)
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        content = memoryview(msgspec.json.encode(saved))
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)
    os.replace(path + ".new", path)


def load(directory: str) -> SavedState:
    """Read state.json; raises NotFound if there is none, Internal if it is broken."""
    try:
        fd = os.open(os.path.join(directory, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("container does not exist") from None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Internal(f"{directory}/{FILE} is no regular file")
        content = file.read(LIMIT)
    try:
        return msgspec.json.decode(content, type=SavedState)
    except msgspec.DecodeError as error:
        raise Internal(f"{directory}/{FILE} cannot be read: {error}") from None


def remove(directory: str) -> None:
    """Remove what is ours in a state directory, and the directory if nothing else is in it."""
    for name in (FILE, FILE + ".new", FIFO):
        try:
            os.unlink(os.path.join(directory, name))
        except (FileNotFoundError, NotADirectoryError):
            pass
    try:
        os.rmdir(directory)
    except OSError:
        pass  # somebody keeps files of their own in it
