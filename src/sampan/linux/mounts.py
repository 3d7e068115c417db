"""Mounts by descriptor: the calls of fsopen(2), open_tree(2), mount_setattr(2) and their elders.

Names and argument order are the kernel's. All raise OSError.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from sampan.linux.libc import NR, error, libc, syscall

# linux/mount.h
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_SYNCHRONOUS: Final = 16
MS_REMOUNT: Final = 32
MS_MANDLOCK: Final = 64
MS_DIRSYNC: Final = 128
MS_NOSYMFOLLOW: Final = 256
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
MS_SILENT: Final = 32768
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_I_VERSION: Final = 1 << 23
MS_STRICTATIME: Final = 1 << 24
MS_LAZYTIME: Final = 1 << 25

MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
MOVE_MOUNT_BENEATH: Final = 0x200
FSOPEN_CLOEXEC: Final = 1
FSMOUNT_CLOEXEC: Final = 1

FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_SET_PATH: Final = 3
FSCONFIG_SET_FD: Final = 5
FSCONFIG_CMD_CREATE: Final = 6
FSCONFIG_CMD_RECONFIGURE: Final = 7

MOUNT_ATTR_RDONLY: Final = 0x01
MOUNT_ATTR_NOSUID: Final = 0x02
MOUNT_ATTR_NODEV: Final = 0x04
MOUNT_ATTR_NOEXEC: Final = 0x08
MOUNT_ATTR_ATIME: Final = 0x70  # the mask of the three below, which exclude each other
MOUNT_ATTR_RELATIME: Final = 0x00
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_IDMAP: Final = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x00200000

# linux/fcntl.h
AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

# linux/stat.h
STATX_MNT_ID: Final = 0x1000
STATX_ATTR_MOUNT_ROOT: Final = 0x2000

# linux/magic.h
PROC_SUPER_MAGIC: Final = 0x9FA0
SYSFS_MAGIC: Final = 0x62656572
DEVPTS_SUPER_MAGIC: Final = 0x1CD1
TMPFS_MAGIC: Final = 0x01021994
CGROUP_SUPER_MAGIC: Final = 0x27E0EB
CGROUP2_SUPER_MAGIC: Final = 0x63677270
PROC_ROOT_INO: Final = 1  # include/linux/proc_ns.h


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_STATX_BYTES: Final = 256
_STATFS_BYTES: Final = 256  # struct statfs has 120 bytes; room for every machine
_fstatfs: Final = libc["fstatfs"]
_fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]


def mount(
    source: bytes | None,
    target: bytes,
    filesystemtype: bytes | None,
    flags: int,
    data: bytes | None = None,
) -> None:
    """Call mount(2). `data` is NULL unless given: "" would cost the kernel a page."""
    syscall(NR["mount"], source, target, filesystemtype, flags, data or None)


def umount2(target: bytes, flags: int = 0) -> None:
    """Unmount; see umount2(2)."""
    syscall(NR["umount2"], target, flags)


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """Change the root mount; see pivot_root(2)."""
    syscall(NR["pivot_root"], new_root, put_old)


def fsopen(fs_name: bytes, flags: int = FSOPEN_CLOEXEC) -> int:
    """Return a descriptor of a new file system context."""
    return syscall(NR["fsopen"], fs_name, flags)


def fsconfig(
    fd: int, command: int, key: bytes | None = None, value: bytes | None = None, aux: int = 0
) -> None:
    """Set a parameter of a file system context, or create the superblock."""
    syscall(NR["fsconfig"], fd, command, key, value, aux)


def fsmount(fd: int, flags: int = FSMOUNT_CLOEXEC, attr_flags: int = 0) -> int:
    """Return a detached mount of a created context."""
    return syscall(NR["fsmount"], fd, flags, attr_flags)


def open_tree(dirfd: int, path: bytes, flags: int) -> int:
    """Return a descriptor of a mount; with OPEN_TREE_CLONE of a detached copy."""
    return syscall(NR["open_tree"], dirfd, path, flags | OPEN_TREE_CLOEXEC)


def move_mount(
    from_dirfd: int, from_path: bytes, to_dirfd: int, to_path: bytes, flags: int
) -> None:
    """Attach or move a mount."""
    syscall(NR["move_mount"], from_dirfd, from_path, to_dirfd, to_path, flags)


def mount_setattr(
    dirfd: int,
    path: bytes,
    flags: int,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change flags, propagation or id mapping of a mount, with AT_RECURSIVE of all below it."""
    attributes = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    size = ctypes.sizeof(attributes)
    syscall(NR["mount_setattr"], dirfd, path, flags, ctypes.byref(attributes), size)


def attach(mount_fd: int, target_fd: int) -> None:
    """Move the mount of one descriptor onto the place of another."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    move_mount(mount_fd, b"", target_fd, b"", flags)


def clone_tree(fd: int, *, recursive: bool = False) -> int:
    """Return a detached bind mount of what a descriptor stands for."""
    flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return open_tree(fd, b"", flags)


def new_filesystem(
    fs_name: bytes,
    parameters: list[tuple[bytes, bytes | None]],
    attr_flags: int = 0,
    source: bytes | None = None,
) -> int:
    """Return a detached mount of a new file system; a parameter without value is a flag."""
    context = fsopen(fs_name)
    try:
        if source is not None:
            fsconfig(context, FSCONFIG_SET_STRING, b"source", source)
        for key, value in parameters:
            if value is None:
                fsconfig(context, FSCONFIG_SET_FLAG, key)
            else:
                fsconfig(context, FSCONFIG_SET_STRING, key, value)
        fsconfig(context, FSCONFIG_CMD_CREATE)
        return fsmount(context, FSMOUNT_CLOEXEC, attr_flags)
    finally:
        os.close(context)


def mount_id(fd: int) -> int:
    """Return the id of the mount that a descriptor lies on."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    syscall(NR["statx"], fd, b"", AT_EMPTY_PATH, STATX_MNT_ID, buffer)
    return int.from_bytes(buffer.raw[0x90:0x98], "little")  # struct statx, stx_mnt_id


def is_mount_root(fd: int) -> bool:
    """Tell whether a descriptor stands for the root of a mount."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    syscall(NR["statx"], fd, b"", AT_EMPTY_PATH, 0, buffer)
    return bool(int.from_bytes(buffer.raw[8:16], "little") & STATX_ATTR_MOUNT_ROOT)


def filesystem_magic(fd: int) -> int:
    """Return the magic number of the file system of a descriptor (O_PATH will do)."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _fstatfs(fd, buffer) != 0:
        raise error(ctypes.get_errno())
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], "little")
