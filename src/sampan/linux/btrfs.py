"""Subvolumes and quota groups of btrfs, by ioctl(2). All calls raise OSError.

Source: include/uapi/linux/btrfs.h, include/uapi/linux/btrfs_tree.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fcntl import ioctl
from typing import Final

BTRFS_FIRST_FREE_OBJECTID: Final = 256  # the inode number of the root of every subvolume
BTRFS_ROOT_TREE_OBJECTID: Final = 1
BTRFS_ROOT_REF_KEY: Final = 156
BTRFS_SUBVOL_SPEC_BY_ID: Final = 1 << 4
BTRFS_QUOTA_CTL_ENABLE: Final = 1
BTRFS_QGROUP_LIMIT_MAX_EXCL: Final = 1 << 1

_SUBVOL_CREATE: Final = 0x5000940E  # _IOW(0x94, 14, struct btrfs_ioctl_vol_args)
_SNAP_DESTROY: Final = 0x5000940F  # _IOW(0x94, 15, struct btrfs_ioctl_vol_args)
_TREE_SEARCH_V2: Final = 0xC0709411  # _IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2)
_INO_LOOKUP: Final = 0xD0009412  # _IOWR(0x94, 18, struct btrfs_ioctl_ino_lookup_args)
_WAIT_SYNC: Final = 0x40089416  # _IOW(0x94, 22, __u64)
_SNAP_CREATE_V2: Final = 0x50009417  # _IOW(0x94, 23, struct btrfs_ioctl_vol_args_v2)
_START_SYNC: Final = 0x80089418  # _IOR(0x94, 24, __u64)
_QUOTA_CTL: Final = 0xC0109428  # _IOWR(0x94, 40, struct btrfs_ioctl_quota_ctl_args)
_QGROUP_CREATE: Final = 0x4010942A  # _IOW(0x94, 42, struct btrfs_ioctl_qgroup_create_args)
_QGROUP_LIMIT: Final = 0x8030942B  # _IOR(0x94, 43, struct btrfs_ioctl_qgroup_limit_args)
_QUOTA_RESCAN_WAIT: Final = 0x942E  # _IO(0x94, 46)
_GET_SUBVOL_INFO: Final = 0x81F8943C  # _IOR(0x94, 60, struct btrfs_ioctl_get_subvol_info_args)
_SNAP_DESTROY_V2: Final = 0x5000943F  # _IOW(0x94, 63, struct btrfs_ioctl_vol_args_v2)

_VOLUME: Final = struct.Struct("=q4088s")  # struct btrfs_ioctl_vol_args
_VOLUME_V2: Final = struct.Struct("=qQQ32x4040s")  # struct btrfs_ioctl_vol_args_v2
_BY_ID: Final = struct.Struct("=qQQ32xQ4032x")  # the same with a subvolume's id for its name
_LOOKUP: Final = struct.Struct("=QQ4080s")  # struct btrfs_ioctl_ino_lookup_args
_SEARCH: Final = struct.Struct("=7Q4I32xQ")  # struct btrfs_ioctl_search_args_v2
_FOUND: Final = struct.Struct("=QQQII")  # struct btrfs_ioctl_search_header
_LIMIT: Final = struct.Struct("=6Q")  # struct btrfs_ioctl_qgroup_limit_args
_INFO: Final = struct.Struct("=352xQ144x")  # struct btrfs_ioctl_get_subvol_info_args: otransid
_EVERY: Final = (1 << 64) - 1
_BUFFER: Final = 1 << 16
Key = tuple[int, int, int]  # object, kind, offset


def create_subvolume(folder: int, name: bytes) -> None:
    """Make an empty subvolume in a directory."""
    ioctl(folder, _SUBVOL_CREATE, bytearray(_VOLUME.pack(0, name)))


def create_snapshot(source: int, folder: int, name: bytes) -> None:
    """Make a writable snapshot of the subvolume whose root is `source`; one inside it is left out.

    The inode numbers in a snapshot are those of its source.
    """
    ioctl(folder, _SNAP_CREATE_V2, bytearray(_VOLUME_V2.pack(source, 0, 0, name)))


def destroy_subvolume(folder: int, name: bytes) -> None:
    """Remove a subvolume with all its files, at once; ENOTEMPTY if it has subvolumes inside."""
    ioctl(folder, _SNAP_DESTROY, bytearray(_VOLUME.pack(0, name)))


def destroy_subvolume_by_id(filesystem: int, number: int) -> None:
    """Remove a subvolume wherever it lies (since Linux 5.7)."""
    arguments = _BY_ID.pack(0, 0, BTRFS_SUBVOL_SPEC_BY_ID, number)
    ioctl(filesystem, _SNAP_DESTROY_V2, bytearray(arguments))


def subvolume_id(fd: int) -> int:
    """Return the number of the subvolume that a file or a directory lies in."""
    answer = bytearray(_LOOKUP.pack(0, BTRFS_FIRST_FREE_OBJECTID, b""))
    ioctl(fd, _INO_LOOKUP, answer)
    number: int = _LOOKUP.unpack(answer)[0]
    return number


def subvolumes_inside(filesystem: int, number: int) -> Iterator[int]:
    """Yield the numbers of the subvolumes directly inside another."""
    first, last = (number, BTRFS_ROOT_REF_KEY, 0), (number, BTRFS_ROOT_REF_KEY, _EVERY)
    for (_, _, child), _ in search_tree(filesystem, BTRFS_ROOT_TREE_OBJECTID, first, last):
        yield child


def search_tree(
    fd: int, tree: int, first: Key, last: Key, since: int = 0
) -> Iterator[tuple[Key, bytes]]:
    """Yield the items of a tree between two keys; tree 0 is the subvolume of `fd`.

    With `since` only those of blocks that were written in that transaction or later: all that was
    changed since then, and some more.
    """
    while first <= last:
        key = (tree, first[0], last[0], first[2], last[2], since, _EVERY)
        answer = bytearray(_SEARCH.size + _BUFFER)
        _SEARCH.pack_into(answer, 0, *key, first[1], last[1], _EVERY & 0xFFFFFFFF, 0, _BUFFER)
        ioctl(fd, _TREE_SEARCH_V2, answer)
        count, at = _SEARCH.unpack_from(answer)[9], _SEARCH.size
        for _ in range(count):
            _, number, offset, kind, length = _FOUND.unpack_from(answer, at)
            at += _FOUND.size
            yield (number, kind, offset), bytes(answer[at : at + length])
            at += length
            first = _after((number, kind, offset))
        if not count:
            return


def _after(key: Key) -> Key:
    number, kind, offset = key
    if offset < _EVERY:
        return number, kind, offset + 1
    return (number, kind + 1, 0) if kind < 255 else (number + 1, 0, 0)


def path_of(subvolume: int, number: int) -> bytes:
    """Return a path of an inode, from the root of its subvolume; ENOENT if it has none any more."""
    answer = bytearray(_LOOKUP.pack(0, number, b""))
    ioctl(subvolume, _INO_LOOKUP, answer)
    path: bytes = _LOOKUP.unpack(answer)[2]
    return path.split(b"\0", 1)[0].rstrip(b"/")


def created_at(subvolume: int) -> int:
    """Return the transaction whose commit made a snapshot: what is its own came later.

    Source: fs/btrfs/transaction.c, create_pending_snapshot.
    """
    answer = bytearray(_INFO.size)
    ioctl(subvolume, _GET_SUBVOL_INFO, answer)
    transaction: int = _INFO.unpack(answer)[0]
    return transaction


def commit_transaction(filesystem: int) -> None:
    """Have everything that was changed so far be in the trees."""
    number = bytearray(8)
    ioctl(filesystem, _START_SYNC, number)
    ioctl(filesystem, _WAIT_SYNC, number)


def enable_quota(filesystem: int) -> None:
    """Have the space of each subvolume counted, and wait until it is; no error if it is already."""
    ioctl(filesystem, _QUOTA_CTL, bytearray(struct.pack("=QQ", BTRFS_QUOTA_CTL_ENABLE, 0)))
    ioctl(filesystem, _QUOTA_RESCAN_WAIT)


def limit_exclusive(subvolume: int, size: int) -> None:
    """Limit the bytes that a subvolume has for itself alone."""
    limit = (BTRFS_QGROUP_LIMIT_MAX_EXCL, 0, size, 0, 0)
    ioctl(subvolume, _QGROUP_LIMIT, bytearray(_LIMIT.pack(0, *limit)))


def remove_quota_group(filesystem: int, number: int) -> None:
    """Forget the quota group of a subvolume that was removed; newer kernels do so themselves."""
    ioctl(filesystem, _QGROUP_CREATE, struct.pack("=QQ", 0, number))
