"""Binding a file again in a running container: the one on the host was replaced by another.

Editors write a new file and rename it over the old one. A bind mount stays with the old inode.
"""

from __future__ import annotations

import os
import stat

from sampan.errors import InvalidArgument
from sampan.linux import mounts, namespaces, paths
from sampan.runtime.roots.sources import open_source
from sampan.runtime.spawner import Bind
from sampan.runtime.starting.preparing import bind_source


def rebind(pid: int, bind: Bind) -> None:
    """Have the container of process `pid` see what is at the source of a bind now.

    Done by a child, in the container's mount namespace. Raises InvalidArgument if it failed: the
    container goes on with what it saw.
    """
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    reading, writing = os.pipe()
    with open(reading, "rb") as report:
        child = os.fork()
        if not child:
            _child(namespace, bind, writing)
        os.close(writing)
        os.close(namespace)
        failure = report.read(4096).decode(errors="replace")
        os.waitpid(child, 0)
    if failure:
        raise InvalidArgument(
            f"{bind.source} cannot be bound again at {bind.destination}: {failure}"
        )


def _child(namespace: int, bind: Bind, writing: int) -> None:
    try:
        tree = open_source(os.fsencode(bind.source), bind_source(bind), mounts.OPEN_TREE_CLONE)
        if not stat.S_ISREG(os.fstat(tree).st_mode):
            raise InvalidArgument("it is no file any more")
        if bind.read_only:
            everything = mounts.AT_EMPTY_PATH
            mounts.mount_setattr(tree, b"", everything, mounts.MOUNT_ATTR_RDONLY)
        own = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        namespaces.setns(namespace, namespaces.CLONE_NEWNS)
        _replace(tree, os.fsencode(bind.destination), own)
    except BaseException as error:  # noqa: BLE001 - there is nobody above
        os.write(writing, (str(error) or type(error).__name__).encode())
    finally:
        os._exit(0)


def _replace(tree: int, destination: bytes, own: int) -> None:
    """Put a mount in the place of the one that is there; only a file's is ever taken away.

    The new one goes beneath, and the old one goes: at no moment is there neither. It goes by its
    descriptor (`own` is the folder of ours): the container may exchange what is on the path, and
    what covers a masked path must not go instead.
    """
    root = os.open(b"/", paths.O_DIRECTORY)
    target = paths.open_in_root(root, destination, links=False)
    if not mounts.is_mount_root(target) or not stat.S_ISREG(os.fstat(target).st_mode):
        raise InvalidArgument("something else is mounted there")
    flags = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
    is_beneath = True
    try:
        mounts.move_mount(tree, b"", target, b"", flags | mounts.MOVE_MOUNT_BENEATH)
    except OSError:  # before Linux 6.5
        is_beneath = False
    os.fchdir(own)
    mounts.umount2(str(target).encode(), mounts.MNT_DETACH)
    if not is_beneath:
        target = paths.open_in_root(root, destination, links=False)
        mounts.attach(tree, target)
