"""An interpreter that no container can overwrite through /proc/self/exe (CVE-2019-5736).

A container whose program is `/proc/self/exe` executes our interpreter, and could then open that
file for writing once we have ended. So a process that starts containers first executes itself
again from a file that cannot be written at all:

* an overlay without upper layer over the interpreter's directory: no memory, a superblock that is
  read-only for ever, whatever mount flags somebody changes; or, where the kernel refuses that,
* a sealed copy in memory (7 MB).

Shared libraries need no such care: they are mapped only before execve(2), in a process that is
not dumpable, so nobody inside can open them through /proc. See
docs/explanation/architecture/runtime.md for what each way costs.
"""

from __future__ import annotations

import fcntl
import os
import sys

from sampan.errors import Unsupported
from sampan.linux import mounts as m
from sampan.linux import process

OVERLAYFS_SUPER_MAGIC = 0x794C7630  # linux/magic.h
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
EXE = "/proc/self/exe"
MFD_EXEC = 0x10  # linux/memfd.h, since Linux 6.3
CHUNK = 1 << 24


def is_sealed() -> bool:
    """Tell whether this process runs from a file that cannot be written."""
    fd = os.open(EXE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.readlink(EXE).startswith("/memfd:"):
            return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
        read_only = os.fstatvfs(fd).f_flag & os.ST_RDONLY
        return bool(read_only) and m.filesystem_magic(fd) == OVERLAYFS_SUPER_MAGIC
    finally:
        os.close(fd)


def seal() -> None:
    """Execute this very process again from a sealed interpreter; returns if it is sealed already.

    Call it first thing in a program: all state is lost, arguments, environment and descriptors
    that are inheritable stay. Raises Unsupported if no way works.
    """
    if is_sealed():
        return
    arguments = [os.fsencode(item) for item in (sys.executable, *sys.orig_argv[1:])]
    environment = [key + b"=" + value for key, value in os.environb.items()]
    reasons = []
    for way in (overlay, memory):
        try:
            process.execveat(way(), arguments, environment)
        except OSError as error:
            reasons.append(f"{way.__name__}: {error.strerror}")
    raise Unsupported(f"the interpreter cannot be sealed ({'; '.join(reasons)})")


def overlay() -> int:
    """Return a descriptor of the interpreter in a detached, read-only overlay of its directory."""
    path = os.path.realpath(EXE)
    folder, name = os.path.split(path)
    empty = m.new_filesystem(b"tmpfs", [(b"nr_inodes", b"2")], m.MOUNT_ATTR_RDONLY, b"tmpfs")
    try:
        # An overlay without upper layer must have two lower ones.
        below = folder.replace("\\", "\\\\").replace(":", "\\:")
        layers = os.fsencode(f"{below}:/proc/self/fd/{empty}")
        attributes = m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOSUID
        mount = m.new_filesystem(b"overlay", [(b"lowerdir", layers)], attributes, b"overlay")
    finally:
        os.close(empty)
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def memory() -> int:
    """Return a descriptor of a sealed copy of the interpreter in memory."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("sampan", flags | MFD_EXEC)
    except OSError:  # a kernel that does not know the flag: executable by default
        fd = os.memfd_create("sampan", flags)
    with open(EXE, "rb") as interpreter:
        while os.sendfile(fd, interpreter.fileno(), None, CHUNK):
            pass
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd
