"""Root file systems with nothing but busybox in them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

PROGRAM = Path("/bin/busybox")  # Debian: busybox-static
EXAMPLE = Path(__file__).resolve().parent.parent / "examples/busybox-rootfs"
FOLDERS = ("bin", "etc", "tmp", "proc", "sys", "dev", "root")
APPLETS = (
    "cat chmod chown cut dd echo env false find grep head hostname id ip kill ln ls mkdir mknod "
    "mount mv nc printf ps pwd readlink rm seq sh sleep sort stat stty tail test touch tr true tty "
    "umount wc yes"
).split()


def fill(root: Path) -> None:
    """Make a root file system in a folder that need not exist."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    shutil.copy(PROGRAM, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")


@functools.cache
def archive() -> bytes:
    """Return the root file system that the examples make, as a tar; made once for all tests."""
    return subprocess.run([EXAMPLE], check=True, capture_output=True).stdout
