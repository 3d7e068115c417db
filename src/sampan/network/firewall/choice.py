"""Which firewall is used, and the end of the one that was used before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.network.firewall.firewall import Firewall
from sampan.network.firewall.iptables import Iptables
from sampan.network.firewall.nftables import Nftables
from sampan.network.firewall.none import NoFirewall
from sampan.network.firewall.only_ipv4 import OnlyIPv4

log = logging.getLogger(__name__)

DEFAULT: Final = "nftables"
BACK_ENDS: Final[dict[str, Callable[[str], Firewall]]] = {
    "iptables": Iptables,
    "nftables": Nftables,
    "none": NoFirewall,
}


def choose(name: str, owner: str, state: Path, *, ipv6: bool = True) -> Firewall:
    """Return a back-end; what another one has made by the file in `state` is removed.

    Without `ipv6` it makes no rules about IPv6.
    """
    note = state / "firewall"
    former = note.read_text() if note.exists() else name
    if former != name and former in BACK_ENDS:
        log.info("the firewall's rules are made by %s from now on, not %s", name, former)
        with suppress(OSError):
            BACK_ENDS[former](owner).clear()
    note.write_text(name)
    chosen = BACK_ENDS[name](owner)
    return chosen if ipv6 or name == "none" else OnlyIPv4(chosen)
