"""News of the kernel's firewall: somebody, perhaps ourselves, has changed a table."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Final

from sampan.network.netlink.protocol import NETLINK_NETFILTER, SOL_NETLINK

log = logging.getLogger(__name__)
NETLINK_ADD_MEMBERSHIP: Final = 1  # linux/netlink.h
NFNLGRP_NFTABLES: Final = 7  # linux/netfilter/nfnetlink.h


class Monitor:
    """Hears of every change of nftables, those of iptables-nft as well."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            sock.setblocking(False)
            sock.bind((0, 0))  # a socket without a number of its own hears nothing
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except OSError as error:  # a kernel without nftables
            log.info("changes of the firewall will not be noticed: %s", error)
            sock.close()
            return
        self._socket = sock

    def watched(self) -> list[int]:
        """Return the descriptor that is readable when there is news."""
        return [self._socket.fileno()] if self._socket else []

    def drain(self) -> None:
        """Take the news; what they say does not matter."""
        while self._socket:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more news than the buffer holds are news, too
                    raise

    def close(self) -> None:
        """Listen no longer."""
        if self._socket:
            self._socket.close()
            self._socket = None
