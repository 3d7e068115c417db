"""No firewall: for administrators who want to write all rules themselves (`--iptables=false`)."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress

from sampan.network.firewall.firewall import Forward, Rules
from sampan.network.firewall.nftables import Nftables

log = logging.getLogger(__name__)


class NoFirewall:
    """Makes no rules; takes away those that were made before it was chosen."""

    def __init__(self, table: str = "sampan") -> None:
        self._former: Nftables | None = Nftables(table)

    def apply(self, rules: Rules) -> None:
        """Remove all of ours, once."""
        self.clear()
        for bridge in rules.bridges:
            self.dismiss(bridge.interface)
        self._former = None

    def add(self, forwards: Collection[Forward]) -> None:
        """Do nothing: relays serve published ports."""

    def remove(self, forwards: Collection[Forward]) -> None:
        """Do nothing."""

    def admit(self, interface: str) -> None:
        """Do nothing: that is the administrator's."""

    def dismiss(self, interface: str) -> None:
        """Take away what an earlier firewall of ours put into the host's rules."""
        if self._former:
            with suppress(OSError):
                self._former.dismiss(interface)

    def is_intact(self) -> bool:
        """Tell that nothing is missing."""
        return True

    def clear(self) -> None:
        """Remove all of ours."""
        if self._former:
            with suppress(OSError):
                self._former.clear()
