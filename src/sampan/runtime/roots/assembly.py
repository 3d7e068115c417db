"""The whole tree of a container that does not run: its root with its bind mounts, for copies.

The mounts are made in the mount namespace of a child; what leaves it is a detached copy.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence

from sampan.errors import InvalidArgument
from sampan.linux import mounts, namespaces, paths
from sampan.runtime.roots import copyup
from sampan.runtime.roots.sources import open_source, part_of
from sampan.runtime.spawner import Bind
from sampan.runtime.starting.preparing import bind_source

_REPORT = 4096  # bytes of the child's sentence


def assemble(root: int, binds: Sequence[Bind], place: str) -> int:
    """Return a detached mount of `root` with all `binds`; `place` is any directory.

    `root` is used up: it is attached in the child, and goes with it. Mount points that are missing
    are made in it, as a start makes them. Raises InvalidArgument for a source that cannot be bound.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        pid = os.fork()
        if not pid:
            _child(theirs, root, binds, place)
        theirs.close()
        report, descriptors, _, _ = socket.recv_fds(ours, _REPORT, 1)
        os.waitpid(pid, 0)
    if not descriptors:
        raise InvalidArgument(report.decode() or "the mounts of the container cannot be made")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _child(answer: socket.socket, root: int, binds: Sequence[Bind], place: str) -> None:
    try:
        tree = _mounted(root, binds, place)
        socket.send_fds(answer, [b"-"], [tree])
    except OSError as error:
        what = os.fsdecode(error.filename) if error.filename else "the root"
        answer.send(f"error mounting {what!r}: {error.strerror}".encode()[:_REPORT])
    except BaseException as error:  # noqa: BLE001 - there is nobody above
        answer.send(str(error).encode()[:_REPORT])
    finally:
        os._exit(0)


def _mounted(root: int, binds: Sequence[Bind], place: str) -> int:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.mount(None, b"/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    # Sources are opened before the root covers anything that they could be in.
    sources = [_source(bind) for bind in binds]
    mounts.attach(root, os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    ordered = sorted(zip(binds, sources, strict=True), key=lambda it: it[0].destination.count("/"))
    for bind, source in ordered:
        if bind.tree and bind.subpath:
            source = part_of(source, os.fsencode(bind.subpath), os.fsencode(bind.source), root)
        destination = os.fsencode(bind.destination)
        is_filled = bind.copy_up and paths.exists_in_root(root, destination)
        if stat.S_ISDIR(os.fstat(source).st_mode):
            target = paths.mkdir_in_root(root, destination)
        else:
            target = paths.make_file_in_root(root, destination)
        if is_filled:
            copyup.fill(target, source)
        mounts.attach(source, target)
        if bind.read_only:
            flags = mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
            mounts.mount_setattr(source, b"", flags, mounts.MOUNT_ATTR_RDONLY)
    return mounts.clone_tree(root, recursive=True)


def _source(bind: Bind) -> int:
    try:
        flags = mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE
        return open_source(os.fsencode(bind.source), bind_source(bind), flags)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), bind.source) from error
