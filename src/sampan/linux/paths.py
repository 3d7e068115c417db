"""Paths inside a foreign root: openat2(2) and what is built on its resolve flags.

Nothing here follows a symbolic link out of the directory that was given. All raise OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import Final

from sampan.linux.libc import NR, error, syscall
from sampan.linux.mounts import PROC_ROOT_INO, PROC_SUPER_MAGIC, filesystem_magic

# linux/openat2.h
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

O_PATH: Final = os.O_PATH | os.O_CLOEXEC
O_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
RETRIES: Final = 128  # openat2 with RESOLVE_IN_ROOT answers EAGAIN while something is renamed


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dirfd: int, path: bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open a file with restrictions on how its path is resolved; always close-on-exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(RETRIES):
        try:
            return syscall(NR["openat2"], dirfd, path, ctypes.byref(how), ctypes.sizeof(how))
        except OSError as failure:
            if failure.errno != errno.EAGAIN:
                raise error(failure.errno or 0, path) from None
    raise error(errno.EAGAIN, path)


def open_in_root(root: int, path: bytes, flags: int = O_PATH, *, links: bool = True) -> int:
    """Open `path` as if `root` were the root directory; without `links` a symlink is ELOOP."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if links else RESOLVE_NO_SYMLINKS)
    return openat2(root, path.strip(b"/") or b".", flags, 0, resolve)


def exists_in_root(root: int, path: bytes) -> bool:
    """Tell whether `path` inside `root` leads to something."""
    try:
        os.close(open_in_root(root, path))
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


def mkdir_in_root(root: int, path: bytes, mode: int = 0o755, *, links: bool = True) -> int:
    """Open the directory `path` inside `root`, making what is missing, component by component."""
    try:
        return open_in_root(root, path, O_DIRECTORY, links=links)
    except FileNotFoundError:
        pass
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise error(errno.EINVAL, path)
    here = os.dup(root)
    try:
        for depth, name in enumerate(parts, 1):
            whole = b"/".join(parts[:depth])
            try:
                below = open_in_root(root, whole, O_DIRECTORY, links=links)
            except FileNotFoundError:
                os.mkdir(name, mode, dir_fd=here)
                below = open_in_root(root, whole, O_DIRECTORY, links=links)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def make_file_in_root(root: int, path: bytes, mode: int = 0o644) -> int:
    """Open (O_PATH) the non-directory `path` inside `root`; make an empty file if it is missing."""
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        pass
    folder, _, name = path.rstrip(b"/").rpartition(b"/")
    parent = mkdir_in_root(root, folder)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, mode, dir_fd=parent))
        return openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH)
    finally:
        os.close(parent)


def mknodat(dirfd: int, path: bytes, mode: int, device: int = 0) -> None:
    """Make a device, fifo or socket with exactly this mode."""
    os.mknod(path, mode, device, dir_fd=dirfd)


def is_device(fd: int, major: int, minor: int) -> bool:
    """Tell whether a descriptor is this character device."""
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(major, minor)


def open_device(path: bytes, major: int, minor: int) -> int:
    """Open (O_PATH) a character device, and make sure that it is the one it is called."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not is_device(fd, major, minor):
        os.close(fd)
        raise error(errno.ENODEV, path)
    return fd


def open_proc() -> int:
    """Return a descriptor of /proc, verified to be the root of a real procfs.

    What is opened below it with `open_below` cannot be redirected by any container: the mount is
    that of the caller's own mount namespace.
    """
    fd = os.open(b"/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        verify_proc(fd)
        if os.fstat(fd).st_ino != PROC_ROOT_INO:
            raise error(errno.ENODEV, b"/proc")
    except OSError:
        os.close(fd)
        raise
    return fd


def verify_proc(fd: int) -> None:
    """Raise OSError (ENODEV) if a descriptor is not on procfs."""
    if filesystem_magic(fd) != PROC_SUPER_MAGIC:
        raise error(errno.ENODEV, b"/proc")


def open_below(dirfd: int, path: bytes, flags: int) -> int:
    """Open a file below a directory, on the same mount, following no magic link."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
    return openat2(dirfd, path, flags, 0, resolve)


def write_proc(proc: int, path: bytes, value: bytes) -> None:
    """Write a file of procfs through a descriptor from `open_proc`; raises OSError."""
    fd = open_below(proc, path, os.O_WRONLY)
    try:
        verify_proc(fd)
        os.write(fd, value)
    finally:
        os.close(fd)
