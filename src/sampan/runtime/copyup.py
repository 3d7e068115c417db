"""tmpcopyup: filling a new tmpfs, or a new volume, with what the image has at its place."""

from __future__ import annotations

import os
import stat

CHUNK = 1 << 20


def copy(source: int, target: int) -> None:
    """Copy a directory tree between descriptors; follows no link, copies no device."""
    folder = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    try:
        _attributes(os.fstat(folder), target)
        for name in os.listdir(folder):
            _entry(folder, target, os.fsencode(name))
    finally:
        os.close(folder)


def fill(source: int, target: int) -> None:
    """Copy a directory tree into a directory, unless there is something in it already."""
    folder = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    try:
        if not os.listdir(folder):
            copy(source, target)
    finally:
        os.close(folder)


def _attributes(status: os.stat_result, fd: int) -> None:
    os.chown(b".", status.st_uid, status.st_gid, dir_fd=fd)
    os.chmod(b".", stat.S_IMODE(status.st_mode), dir_fd=fd)


def _entry(source: int, target: int, name: bytes) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    mode = stat.S_IMODE(status.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=target)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        above = os.open(name, flags, dir_fd=source)
        try:
            below = os.open(name, flags, dir_fd=target)
            try:
                copy(above, below)
            finally:
                os.close(below)
        finally:
            os.close(above)
    elif kind == stat.S_IFREG:
        _file(source, target, name, status, mode)
    elif kind == stat.S_IFIFO:
        os.mkfifo(name, mode, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _file(source: int, target: int, name: bytes, status: os.stat_result, mode: int) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    read = os.open(name, flags, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        write = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(write, read, None, CHUNK):
                pass
            os.fchown(write, status.st_uid, status.st_gid)
            os.fchmod(write, mode)  # after chown, which clears set-id bits
        finally:
            os.close(write)
    finally:
        os.close(read)
