"""Snapshots as overlays by fuse-overlayfs, for kernels and file systems that have no overlay.

The mount is made here, detached, and the program is given the open /dev/fuse. So each mount has a
process of its own, which belongs to nobody: it outlives the helper and the daemon as containers
do, and ends when the last user of the mount has gone, since the kernel then closes the connection.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sampan.errors import Unsupported
from sampan.linux import mounts, trees
from sampan.linux.filesystems import filesystem_name, has_kinds
from sampan.linux.namespaces import in_user_namespace
from sampan.storage.drivers.overlay import OverlayDriver, scratch
from sampan.storage.layers.diffing import FUSE_MARKS, FUSE_USER_MARKS
from sampan.storage.projects import Projects

PROGRAM: Final = "fuse-overlayfs"
DEVICE: Final = "/dev/fuse"
_START_SECONDS: Final = 30
_MOST_MOUNTS: Final = 64  # of one snapshot at a time
_NOISE: Final = ("unknown argument ignored:",)  # fuse-overlayfs 1.10 says so at every start


class FuseOverlayfsDriver(OverlayDriver):
    """Snapshots as file systems of fuse-overlayfs; on disk they look as overlay's."""

    name = "fuse-overlayfs"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._projects = Projects(root, self.name)
        self.marks = FUSE_USER_MARKS if in_user_namespace() else FUSE_MARKS
        self._program = shutil.which(PROGRAM) or ""
        if not self._program:
            raise Unsupported(f"driver not supported: the program {PROGRAM} is not installed")
        try:
            os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise Unsupported(
                f"driver not supported: {DEVICE}: {error.strerror}: this kernel has no FUSE, or"
                " this container was not given the device"
            ) from error
        with scratch(root) as folders:
            try:
                os.close(self._mount(folders[0], folders[1:], read_only=False))
            except OSError as error:
                raise Unsupported(
                    f"driver not supported: {PROGRAM} does not work: {error}"
                ) from error

    def status(self) -> list[tuple[str, str]]:
        """Return what `docker info` shows."""
        return [
            ("Build Version", _version(self._program)),
            ("Backing Filesystem", filesystem_name(self._root)),
            ("Supports d_type", str(has_kinds(self._root)).lower()),
            ("Native Overlay Diff", "false"),
            ("Mounts", "detached"),
        ]

    def _mount(
        self, own: Path | None, layers: list[Path], *, read_only: bool, user: int = -1
    ) -> int:
        if user >= 0:
            raise Unsupported(
                f"a user namespace needs id-mapped mounts, which {PROGRAM} does not have: run the"
                " container with --userns=host, or use another storage driver"
            )
        with ExitStack() as undo:
            words = []
            passed = []
            if own is not None:
                work, lock = _free_work(own)
                undo.callback(os.close, lock)
                passed.append(lock)
                words = [f"upperdir={self._relative(own)}/fs,workdir={self._relative(own)}/{work}"]
            below = [self._relative(folder) + "/fs" for folder in layers]
            if own is not None and not below:
                below = [f"{self._relative(own)}/{self._nothing(own).name}"]
            # What is written must be in the upper directory at once, for `diff` and `commit`: so
            # the kernel does not collect it (writeback).
            words += ["lowerdir=" + ":".join(below), "writeback=0"]
            fuse = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, fuse)
            mount = _connected(fuse, read_only=read_only)
            undo.callback(os.close, mount)
            self._start(",".join(words), fuse, passed)
            os.stat(b"/proc/self/fd/%d" % mount)  # ENOTCONN if the program has ended after all
            return os.dup(mount)

    def _relative(self, folder: Path) -> str:
        """Return a name without characters that mean something in options."""
        return str(folder.relative_to(self._root))

    def _start(self, options: str, fuse: int, passed: list[int]) -> None:
        """Have the program serve a connection; it goes into the background when it is ready."""
        try:
            done = subprocess.run(
                [self._program, "-o", options, f"/dev/fd/{fuse}"],
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[fuse, *passed],
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                timeout=_START_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(errno.ETIMEDOUT, f"{PROGRAM} did not start in time") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").splitlines()
            reason = "; ".join(line for line in said if not line.startswith(_NOISE))
            raise OSError(errno.EIO, f"{PROGRAM}: {reason or f'exit code {done.returncode}'}")


def _connected(fuse: int, *, read_only: bool) -> int:
    """Return a detached mount of the file system that whoever reads from `fuse` serves."""
    return mounts.new_filesystem(
        b"fuse",
        [
            (b"fd", b"%d" % fuse),
            (b"rootmode", b"40000"),
            (b"user_id", b"%d" % os.geteuid()),
            (b"group_id", b"%d" % os.getegid()),
            (b"allow_other", None),
            (b"default_permissions", None),
            (b"subtype", PROGRAM.encode()),
        ],
        mounts.MOUNT_ATTR_RDONLY if read_only else 0,
        PROGRAM.encode(),
    )


def _free_work(own: Path) -> tuple[str, int]:
    """Return a work directory that no other process uses, and the lock that says so.

    The program empties it when it starts, and keeps the lock for as long as it runs.
    """
    for number in range(_MOST_MOUNTS):
        name = f"work{number or ''}"
        (own / name).mkdir(mode=0o700, exist_ok=True)
        lock = os.open(own / name, trees.DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return name, lock
    raise OSError(errno.EBUSY, "too many mounts of one snapshot")


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(f"{PROGRAM}:"):
            return line.partition(":")[2].strip().removeprefix("version ")
    return ""
