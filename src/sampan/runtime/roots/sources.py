"""Where bind mounts start: folders and files of the host, parts of volumes, whole images.

A part of a volume (`subpath`) is named by a user, and the volume is written by containers: it is
resolved beneath the volume by the kernel in one step, and used by descriptor from there on, so
that no link, and no race with one, leads out of it.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.linux import paths


@dataclass(frozen=True, slots=True)
class BindSource:
    """More about the source of one bind mount than the specification can say."""

    subpath: bytes = b""  # below the source
    tree: int = -1  # descriptor of a detached mount, instead of a path; lent
    strict: bool = False  # no symbolic link on the way: a stranger has named the path


def open_source(source: bytes, more: BindSource, flags: int) -> int:
    """Return a detached copy of the mount at a source; `flags` are those of open_tree(2).

    A part of a `tree` is left to `part_of`. Raises OSError, InvalidArgument.
    """
    if more.tree >= 0:
        return os.dup(more.tree)
    if not more.subpath and not more.strict:
        return m.open_tree(m.AT_FDCWD, source, flags)
    resolve = paths.RESOLVE_NO_MAGICLINKS | (paths.RESOLVE_NO_SYMLINKS if more.strict else 0)
    base = paths.openat2(m.AT_FDCWD, source, paths.O_PATH, 0, resolve)
    try:
        if not more.subpath:
            return m.open_tree(base, b"", flags | m.AT_EMPTY_PATH)
        part = open_part(base, more.subpath, source)
        try:
            return m.open_tree(part, b"", flags | m.AT_EMPTY_PATH)
        finally:
            os.close(part)
    finally:
        os.close(base)


def open_part(base: int, subpath: bytes, source: bytes) -> int:
    """Return a descriptor (O_PATH) of what is at `subpath` beneath `base`; InvalidArgument."""
    resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS
    try:
        return paths.openat2(base, subpath, paths.O_PATH, 0, resolve)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EAGAIN):
            raise InvalidArgument(
                f"path concatenation escapes the base directory, base: {os.fsdecode(source)},"
                f" subpath: {os.fsdecode(subpath)}"
            ) from None
        where = os.fsdecode(source.rstrip(b"/") + b"/" + subpath)
        reason = os.strerror(error.errno or 0).lower()
        raise InvalidArgument(f"cannot access path {where}: {reason}") from None


def part_of(tree: int, subpath: bytes, source: bytes, place: int) -> int:
    """Return a detached copy of a part of the detached mount `tree`, which is closed.

    It is attached over `place` meanwhile, in the caller's own mount namespace: before Linux 6.15
    nothing that is detached could be copied.
    """
    try:
        m.attach(tree, place)
        try:
            part = open_part(tree, subpath, source)
            try:
                return m.clone_tree(part, recursive=True)
            finally:
                os.close(part)
        finally:
            back = os.open(b".", paths.O_DIRECTORY)
            try:
                os.fchdir(tree)
                m.umount2(b".", m.MNT_DETACH)
            finally:
                os.fchdir(back)
                os.close(back)
    finally:
        os.close(tree)
