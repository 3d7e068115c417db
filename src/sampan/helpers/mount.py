"""The storage helper: python -m sampan.helpers.mount FD ROOT [DRIVER [RUN_ROOT]].

Serves the contracts of snapshots, volumes and files in memory on an inherited socket until the
other end closes it.
Ends at once with the exit code HOPELESS if no storage driver can be used: starting it again would
not help.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from sampan import rpc
from sampan.errors import Unsupported
from sampan.linux import capabilities
from sampan.storage.linux_mounter import LinuxMounter, forking
from sampan.storage.linux_volume_keeper import FORKING, LinuxVolumeKeeper
from sampan.storage.service import LinuxStorage, Storage

HOPELESS: Final = 78  # sysexits.h, EX_CONFIG; known to the supervisor
# SYS_ADMIN: mounts and trusted.* attributes. SETUID, SETGID: to make files as the root of a user
# namespace does. The others: files of any owner, mode and kind.
NEEDED: Final = (
    "CAP_SYS_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_MKNOD"
    " CAP_SETFCAP CAP_SETUID CAP_SETGID"
)


def main() -> None:
    """Limit what this process can do, and serve."""
    number, root, driver = int(sys.argv[1]), Path(sys.argv[2]), "".join(sys.argv[3:4])
    run_root = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is for the daemon
    os.umask(0)
    keep, _ = capabilities.bits(NEEDED.split())
    capabilities.drop_bounding(keep)
    capabilities.capset(keep, keep, 0)
    try:
        mounter = LinuxMounter(root, driver, forks=True)
    except Unsupported as error:
        sys.stderr.write(f"failed to start daemon: {error}\n")
        sys.exit(HOPELESS)
    slow = (*forking(mounter.driver().name), *FORKING)
    both = LinuxStorage(mounter, LinuxVolumeKeeper(root, run_root))
    rpc.serve(socket.socket(fileno=number), Storage, both, forking=slow)


if __name__ == "__main__":
    main()
