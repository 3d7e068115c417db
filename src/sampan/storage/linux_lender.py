"""The Lender of this machine: a tmpfs for each file, as small as it can be."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sampan.errors import InvalidArgument, NoSpace
from sampan.linux import mounts as m
from sampan.rpc import Fd
from sampan.storage.lender import LARGEST, NAME, Listener

_LARGEST_ID: Final = (1 << 32) - 2  # the last one means "unchanged" to chown(2)
_WAITING: Final = 16  # connections that nobody has accepted yet


class LinuxLender:
    """Lends files in memory; see Lender."""

    def lend_file(self, content: Fd, mode: int, uid: int, gid: int) -> Fd:
        """Return a mount with one file; see Lender."""
        _check(mode, uid, gid)
        data = os.pread(content.number, LARGEST + 1, 0)
        if len(data) > LARGEST:
            raise InvalidArgument(f"a secret has more than {LARGEST} bytes")
        executable = 0 if mode & 0o111 else m.MOUNT_ATTR_NOEXEC
        with _memory(len(data), executable) as tree:
            file = os.open(
                NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0, dir_fd=tree
            )
            with open(file, "wb", buffering=0) as written:
                written.write(data)
                os.fchown(file, uid, gid)
                os.fchmod(file, mode)
            m.mount_setattr(tree, b"", m.AT_EMPTY_PATH, m.MOUNT_ATTR_RDONLY)
            return Fd(os.dup(tree))

    def lend_socket(self, mode: int, uid: int, gid: int) -> Listener:
        """Return a mount with one socket; see Lender."""
        _check(mode, uid, gid)
        with _memory(0, m.MOUNT_ATTR_NOEXEC) as tree, socket.socket(socket.AF_UNIX) as sock:
            # bind(2) knows no folder by descriptor, and ours has no path but this one.
            sock.bind(f"/proc/self/fd/{tree}/{NAME}")
            os.chown(NAME, uid, gid, dir_fd=tree)
            os.chmod(NAME, mode, dir_fd=tree)
            sock.listen(_WAITING)
            return Listener(tree=Fd(os.dup(tree)), sock=Fd(sock.detach()))


def _check(mode: int, uid: int, gid: int) -> None:
    if not 0 <= mode <= 0o777:
        raise InvalidArgument(f"invalid mode {mode:o}")
    for name, number in (("user", uid), ("group", gid)):
        if not 0 <= number <= _LARGEST_ID:
            raise InvalidArgument(f"invalid {name} id {number}")


@contextmanager
def _memory(size: int, attributes: int) -> Iterator[int]:
    """Have a new file system in memory for one file of so many bytes; give its mount."""
    attributes |= m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV
    pages = size // os.sysconf("SC_PAGE_SIZE") + 1
    options: list[tuple[bytes, bytes | None]] = [
        (b"mode", b"711"),
        (b"nr_blocks", b"%d" % pages),
        (b"nr_inodes", b"2"),
    ]
    try:
        tree = _new(options, attributes)
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.ENOSPC):
            raise NoSpace("no memory for what a step of a build is lent") from error
        raise
    try:
        yield tree
    finally:
        os.close(tree)


def _new(options: list[tuple[bytes, bytes | None]], attributes: int) -> int:
    """Return the mount of a tmpfs, that is not written to swap space either if it can be had."""
    try:
        return m.new_filesystem(b"tmpfs", [*options, (b"noswap", None)], attributes, b"lent")
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.4, or without swap space in the kernel
            raise
    return m.new_filesystem(b"tmpfs", options, attributes, b"lent")
