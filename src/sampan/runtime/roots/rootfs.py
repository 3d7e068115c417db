"""The container's root: attached, entered by pivot_root(2), and closed against what leaks from it.

No directory of the host is used: the root is moved over `/` of the new mount namespace, which
only this container ever sees, and the old root is unmounted from beneath it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.linux import paths
from sampan.runtime.roots import null
from sampan.runtime.roots.options import PROPAGATION
from sampan.runtime.starting.channel import reason

EMPTY_PATHS = m.MOVE_MOUNT_F_EMPTY_PATH


def isolate(propagation: str) -> None:
    """Cut the new mount namespace from the host's, as far as `propagation` says.

    Host mounts still arrive (rslave) unless it is private; with "shared" those of the container go
    out, too, which is what binds with that option are for.
    """
    kind, recursive = PROPAGATION.get(propagation, (m.MS_SLAVE, True))
    if kind == m.MS_UNBINDABLE:  # of the new root only: sources must remain bindable
        kind, recursive = m.MS_SLAVE, True
    m.mount(None, b"/", None, kind | (m.MS_REC if recursive else 0))
    if kind == m.MS_SHARED:  # the root that is attached next must not reach the host
        m.mount(None, b"/", None, m.MS_PRIVATE)


def isolate_tree(root: int, propagation: str) -> None:
    """Cut a root that was cloned before `isolate` from what it was cloned of.

    It is a peer of that if the host's mounts are shared, as systemd makes them: what is mounted in
    the container would appear on the host, and stay.
    """
    kind, _ = PROPAGATION.get(propagation, (m.MS_SLAVE, True))
    flags = m.AT_EMPTY_PATH | (0 if kind == m.MS_SHARED else m.AT_RECURSIVE)
    m.mount_setattr(root, b"", flags, propagation=m.MS_SLAVE)


def clone_root(path: bytes) -> int:
    """Return a detached bind mount of a root directory, with what is mounted below it."""
    return m.open_tree(m.AT_FDCWD, path, m.OPEN_TREE_CLONE | m.AT_RECURSIVE)


def attach(root: int) -> int:
    """Move the detached mount `root` over `/` and return a descriptor of its directory.

    The calling process still sees the old root beneath: it enters with `pivot`.
    """
    m.move_mount(root, b"", m.AT_FDCWD, b"/", EMPTY_PATHS)
    return os.open(b".", paths.O_DIRECTORY, dir_fd=root)


def pivot(root: int) -> None:
    """Make `root` the root directory, and unmount all that was there before."""
    old = os.open(b"/", paths.O_DIRECTORY)
    os.fchdir(root)
    m.pivot_root(b".", b".")
    # The old root now lies on top of the new one. Its mounts must not be unmounted on the host,
    # too, so it stops propagating first; "." alone would still mean the new root.
    os.fchdir(old)
    os.close(old)
    m.mount(None, b".", None, m.MS_SLAVE | m.MS_REC)
    m.umount2(b".", m.MNT_DETACH)
    os.chdir(b"/")


def move_and_chroot(root: int) -> None:
    """Enter `root` without pivot_root(2), for an initramfs root that cannot be pivoted."""
    os.fchdir(root)
    os.chroot(b".")
    os.chdir(b"/")


@dataclass(slots=True)
class Masks:
    """Detached mounts with which paths are hidden; taken before the host's root is left."""

    null: int = -1  # /dev/null of the host, verified
    files: list[int] = field(default_factory=list)
    directory: int = -1  # the shared, read-only, empty tmpfs, once it is attached

    @classmethod
    def prepare(cls, count: int) -> Masks:
        """Take `count` copies of the host's /dev/null, which no container can exchange.

        So that a masked path never becomes a bind of something else (CVE-2025-31133).
        """
        masks = cls(paths.open_device(b"/dev/null", 1, 3))
        for _ in range(count):
            masks.files.append(null.read_only_copy(masks.null))
        return masks

    def close(self) -> None:
        """Close what was not used."""
        for fd in (self.null, self.directory, *self.files):
            if fd >= 0:
                os.close(fd)
        self.files.clear()
        self.null = self.directory = -1


def mask(root: int, path: bytes, masks: Masks) -> None:
    """Hide a file behind /dev/null, or a directory behind the empty tmpfs; skip what is missing."""
    if (target := _opened(root, path, "mask path")) is None:
        return
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode):
            _mask_directory(target, masks)
        else:
            copy = masks.files.pop() if masks.files else null.read_only_copy(masks.null)
            try:
                m.attach(copy, target)
            finally:
                os.close(copy)
    except OSError as error:
        raise _failed("mask path", path, error) from None
    finally:
        os.close(target)


def _mask_directory(target: int, masks: Masks) -> None:
    """Cover a directory; one superblock serves all of them."""
    attributes = (
        m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC
    )
    if masks.directory < 0:
        options: list[tuple[bytes, bytes | None]] = [(b"nr_blocks", b"1"), (b"nr_inodes", b"1")]
        masks.directory = m.new_filesystem(b"tmpfs", options, attributes, b"tmpfs")
        m.attach(masks.directory, target)
        return
    copy = m.clone_tree(masks.directory)
    try:
        m.attach(copy, target)
    finally:
        os.close(copy)


def _opened(root: int, path: bytes, purpose: str) -> int | None:
    """Return a descriptor of what is at a path in the root; None for nothing."""
    try:
        return paths.open_in_root(root, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise _failed(purpose, path, error) from None


def make_read_only(root: int, path: bytes) -> None:
    """Make a path read-only by a bind of itself; skip what is missing."""
    if (target := _opened(root, path, "set path as read-only")) is None:
        return
    try:
        copy = m.clone_tree(target, recursive=True)
        try:
            m.mount_setattr(copy, b"", m.AT_EMPTY_PATH | m.AT_RECURSIVE, m.MOUNT_ATTR_RDONLY)
            m.attach(copy, target)
        finally:
            os.close(copy)
    except OSError as error:
        raise _failed("set path as read-only", path, error) from None
    finally:
        os.close(target)


def make_root_read_only(root: int) -> None:
    """Make the mount of the root read-only; those below keep what they are."""
    m.mount_setattr(root, b"", m.AT_EMPTY_PATH, m.MOUNT_ATTR_RDONLY)


def set_root_propagation(root: int, propagation: str) -> None:
    """Give the root the propagation of the specification, after it was entered."""
    kind, recursive = PROPAGATION.get(propagation, (0, False))
    if kind:
        flags = m.AT_EMPTY_PATH | (m.AT_RECURSIVE if recursive else 0)
        m.mount_setattr(root, b"", flags, propagation=kind)


def bind_console(root: int, slave: int) -> None:
    """Bind a terminal to /dev/console, from descriptor to descriptor (CVE-2025-52565)."""
    try:
        dev = paths.open_in_root(root, b"/dev", paths.O_DIRECTORY, links=False)
        try:
            target = _console(dev)
            try:
                copy = m.clone_tree(slave)
                try:
                    m.attach(copy, target)
                finally:
                    os.close(copy)
            finally:
                os.close(target)
        finally:
            os.close(dev)
    except OSError as error:
        raise _failed("bind the terminal to", b"/dev/console", error) from None


def _console(dev: int) -> int:
    """Open /dev/console for a mount; a link or directory in its place is refused."""
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(b"console", flags, 0o600, dir_fd=dev))
    except FileExistsError:
        pass
    flags = os.O_PATH | os.O_NOFOLLOW
    target = paths.openat2(dev, b"console", flags, 0, paths.RESOLVE_BENEATH)
    mode = os.fstat(target).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(target)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _failed(doing: str, path: bytes, error: OSError) -> InvalidArgument:
    return InvalidArgument(f"can't {doing} {os.fsdecode(path)!r}: {reason(error)}")
