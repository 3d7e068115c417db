"""The storage helper: python -m sampan.helpers.mount FD ROOT DRIVER.

Serves the Mounter contract on an inherited socket until the other end closes it.
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
from sampan.linux import capabilities
from sampan.storage.linux_mounter import LinuxMounter, forking
from sampan.storage.mounter import Mounter

# SYS_ADMIN: mounts and trusted.* attributes. The others: files of any owner, mode and kind.
NEEDED: Final = (
    "CAP_SYS_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_MKNOD"
    " CAP_SETFCAP"
)


def main() -> None:
    """Limit what this process can do, and serve."""
    number, root, driver = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is for the daemon
    os.umask(0)
    keep, _ = capabilities.bits(NEEDED.split())
    capabilities.drop_bounding(keep)
    capabilities.capset(keep, keep, 0)
    mounter = LinuxMounter(root, driver, forks=True)
    rpc.serve(socket.socket(fileno=number), Mounter, mounter, forking=forking(driver))


if __name__ == "__main__":
    main()
