"""Runs a command as an ordinary user does: as the root of a user namespace with a range of ids.

python -m tests.in_user_namespace COMMAND…
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile

from sampan.linux import mounts
from sampan.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER, unshare

FIRST, COUNT = 100_000, 65_536  # what /etc/subuid gives the first user


def _give_fuse() -> None:
    """Let everybody open /dev/fuse, as distributions do; seen in our mount namespace only."""
    if not os.path.exists("/dev/fuse"):
        return
    unshare(CLONE_NEWNS)
    mounts.mount(None, b"/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        node = f"{folder}/fuse"
        os.mknod(node, stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        os.chmod(node, 0o666)
        mounts.mount(node.encode(), b"/dev/fuse", None, mounts.MS_BIND)


def main(command: list[str]) -> int:
    """Become nobody in particular, then root of a new namespace; the ids are written from here."""
    ready, begun = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _give_fuse()
        os.setgroups([])
        os.setresgid(FIRST, FIRST, FIRST)
        os.setresuid(FIRST, FIRST, FIRST)
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        os.write(begun[1], b".")
        os.read(ready[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        mounts.mount(None, b"/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        os.execvp(command[0], command)
    os.read(begun[0], 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w") as file:
            file.write(f"0 {FIRST} {COUNT}\n")
    os.write(ready[1], b".")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
