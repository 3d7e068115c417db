"""Pseudo-terminals opened by descriptor, never by a name that a container could exchange."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import termios
from typing import Final

from sampan.linux.libc import error, libc
from sampan.linux.mounts import DEVPTS_SUPER_MAGIC, filesystem_magic
from sampan.linux.paths import is_device

TIOCSPTLCK: Final = 0x40045431  # asm-generic/ioctls.h
TIOCGPTPEER: Final = 0x5441  # asm-generic/ioctls.h, since Linux 4.13
PTMX: Final = (5, 2)
UNIX98_PTY_SLAVE_MAJOR: Final = 136  # linux/major.h

_ioctl: Final = libc["ioctl"]
_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def open_pty(ptmx: int) -> tuple[int, int]:
    """Return (master, slave) of a new terminal; `ptmx` is an open, verified ptmx, now the master.

    The slave is opened from the master (TIOCGPTPEER), so no path is involved.
    """
    unlocked = struct.pack("i", 0)
    fcntl.ioctl(ptmx, TIOCSPTLCK, unlocked)
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    slave = int(_ioctl(ptmx, TIOCGPTPEER, flags))
    if slave < 0:
        raise error(ctypes.get_errno(), "ptmx")
    return ptmx, slave


def verify_ptmx(fd: int) -> None:
    """Raise OSError (ENODEV) unless a descriptor is the ptmx of a devpts file system."""
    if filesystem_magic(fd) != DEVPTS_SUPER_MAGIC or not is_device(fd, *PTMX):
        raise error(errno.ENODEV, "ptmx")


def verify_slave(fd: int) -> None:
    """Raise OSError (ENODEV) unless a descriptor is a terminal of a devpts file system."""
    major = os.major(os.fstat(fd).st_rdev)
    if filesystem_magic(fd) != DEVPTS_SUPER_MAGIC or major != UNIX98_PTY_SLAVE_MAJOR:
        raise error(errno.ENODEV, "pts")


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Set the size of a terminal, in characters."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def window_size(fd: int) -> tuple[int, int]:
    """Return (rows, columns) of a terminal."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def make_controlling(fd: int) -> None:
    """Make a terminal the controlling one of the caller, a session leader without any."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def send_master(master: int, path: str) -> None:
    """Send the master of a terminal to the console socket at `path`, as runc does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        name = os.readlink(f"/proc/self/fd/{master}").encode()
        socket.send_fds(sock, [name], [master])
