"""The network helper: python -m sampan.helpers.network FD STATE [WORD…].

Serves the Plumber contract on an inherited socket until the other end closes it, in the network
namespace where it was started. What it made stays; a successor finds it in the folder STATE.
Words are owner=NAME (mark and firewall table, sampan), resolv-conf=PATH (the host's) and
firewall=nftables (or iptables, none). With ipv6=unfiltered no rules about IPv6 are made.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from sampan.linux import capabilities
from sampan.network.firewall.choice import DEFAULT, choose
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.service import serve

# SYS_ADMIN: setns and unshare. SETUID, SETGID, KILL: relays become nobody, and are ended.
NEEDED: Final = "CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SETUID CAP_SETGID CAP_KILL"


def main() -> None:
    """Limit what this process can do, and serve."""
    number, state = int(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is for the daemon
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two per published port
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep, _ = capabilities.bits(NEEDED.split())
    capabilities.drop_bounding(keep)
    capabilities.capset(keep, keep, 0)
    words = dict(word.partition("=")[::2] for word in sys.argv[3:])
    owner = words.get("owner", "sampan")
    plumber = LinuxPlumber(
        state,
        owner=owner,
        firewall=choose(
            words.get("firewall", DEFAULT), owner, state, ipv6=words.get("ipv6") != "unfiltered"
        ),
        defers=True,
        resolv_conf=Path(words.get("resolv-conf", "/etc/resolv.conf")),
    )
    serve(socket.socket(fileno=number), plumber)


if __name__ == "__main__":
    main()
