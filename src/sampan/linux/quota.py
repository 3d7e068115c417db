"""Project quotas: a number on a directory and all below it, and what that number may use.

Source: quotactl(2), include/uapi/linux/dqblk_xfs.h, include/uapi/linux/fs.h. The calls of xfs
work on ext4, too. All raise OSError.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from fcntl import ioctl
from typing import Final

from sampan.linux.libc import NR, syscall

_PRJQUOTA: Final = 2  # linux/quota.h
_Q_XGETQUOTA: Final = 0x5803
_Q_XSETQLIM: Final = 0x5804
_Q_XGETQSTAT: Final = 0x5805
_PDQ_ENFD: Final = 1 << 5  # FS_QUOTA_PDQ_ENFD: limits of projects are enforced
_FS_DQUOT_VERSION: Final = 1
_FS_PROJ_QUOTA: Final = 2
_FS_DQ_BSOFT: Final = 1 << 2
_FS_DQ_BHARD: Final = 1 << 3
_BLOCK: Final = 512  # bytes of a "basic block"
_QUOTA: Final = struct.Struct("=bbHI6Q56x")  # struct fs_disk_quota, 112 bytes
_STATE_BYTES: Final = 128  # struct fs_quota_stat has 80

_FSGETXATTR: Final = 0x801C581F  # _IOR('X', 31, struct fsxattr)
_FSSETXATTR: Final = 0x401C5820  # _IOW('X', 32, struct fsxattr)
_FS_XFLAG_PROJINHERIT: Final = 0x200
_FSXATTR: Final = struct.Struct("=5I8x")


def _quotactl(fd: int, command: int, number: int, buffer: bytearray) -> None:
    address = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    syscall(NR["quotactl_fd"], fd, command << 8 | _PRJQUOTA, number, address)


def projects_are_limited(fd: int) -> bool:
    """Tell whether the file system of `fd` enforces quotas of projects."""
    state = bytearray(_STATE_BYTES)
    state[0] = 1  # FS_QSTAT_VERSION
    try:
        _quotactl(fd, _Q_XGETQSTAT, 0, state)
    except OSError:
        return False
    flags: int = struct.unpack_from("=H", state, 2)[0]
    return bool(flags & _PDQ_ENFD)


def limit_project(fd: int, project: int, size: int) -> None:
    """Limit the bytes of a project; 0 takes the limit away."""
    blocks = -(-size // _BLOCK)
    mask = _FS_DQ_BSOFT | _FS_DQ_BHARD
    fields = (_FS_DQUOT_VERSION, _FS_PROJ_QUOTA, mask, project, blocks, blocks, 0, 0, 0, 0)
    _quotactl(fd, _Q_XSETQLIM, project, bytearray(_QUOTA.pack(*fields)))


def project_usage(fd: int, project: int) -> tuple[int, int, int]:
    """Return (limit in bytes or 0, bytes, inodes) of a project."""
    quota = bytearray(_QUOTA.size)
    try:
        _quotactl(fd, _Q_XGETQUOTA, project, quota)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return 0, 0, 0
        raise
    _, _, _, _, hard, _, _, _, blocks, inodes = _QUOTA.unpack(quota)
    return hard * _BLOCK, blocks * _BLOCK, inodes


def project_of(fd: int) -> int:
    """Return the project of a file or directory, 0 if it has none."""
    try:
        answer = bytearray(_FSXATTR.size)
        ioctl(fd, _FSGETXATTR, answer)
    except OSError:
        return 0  # a file system without projects
    number: int = _FSXATTR.unpack(answer)[3]
    return number


def set_project(folder: int, project: int) -> None:
    """Give an empty directory a project, which all that is made in it takes over."""
    answer = bytearray(_FSXATTR.size)
    ioctl(folder, _FSGETXATTR, answer)
    flags, extent, extents, _, cow = _FSXATTR.unpack(answer)
    fields = (flags | _FS_XFLAG_PROJINHERIT, extent, extents, project, cow)
    ioctl(folder, _FSSETXATTR, _FSXATTR.pack(*fields))
