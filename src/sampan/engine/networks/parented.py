"""Networks on interfaces of the host, macvlan and ipvlan: what their options say.

Sources of names, defaults and sentences: moby libnetwork/drivers/macvlan/macvlan_network.go and
ipvlan/ipvlan_network.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sampan.engine.networks.database import parentless_name
from sampan.errors import Internal

PARENTED: Final = ("macvlan", "ipvlan")
_PARENT: Final = "parent"
_MODES: Final = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),  # the first is the default
    "ipvlan": ("l2", "l3", "l3s"),
}
_FLAGS: Final = ("bridge", "private", "vepa")


def check_options(driver: str, options: Mapping[str, str]) -> None:
    """Raise Internal, which is Docker's status, for an option that the driver does not know."""
    mode, modes = options.get(f"{driver}_mode", ""), _MODES[driver]
    if mode and mode not in modes:
        raise Internal(
            f"requested {driver} mode '{mode}' is not valid, '{modes[0]}' mode is the {driver} "
            "driver default"
        )
    flag = options.get("ipvlan_flag", "")
    if driver == "ipvlan" and flag and flag not in _FLAGS:
        raise Internal(
            f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default"
        )
    if options.get(_PARENT) == "lo":
        raise Internal(f"loopback interface is not a valid {driver} parent link")


def parent_of(network_id: str, options: Mapping[str, str]) -> str:
    """Return the name of the parent interface, our own if the options name none."""
    return options.get(_PARENT) or parentless_name(network_id)


def mode_of(driver: str, options: Mapping[str, str]) -> str:
    """Return the mode."""
    return options.get(f"{driver}_mode") or _MODES[driver][0]


def flag_of(driver: str, options: Mapping[str, str]) -> str:
    """Return what keeps containers of an ipvlan network apart, or not."""
    return (options.get("ipvlan_flag") or _FLAGS[0]) if driver == "ipvlan" else ""


def needs_gateway(driver: str, options: Mapping[str, str], *, internal: bool) -> bool:
    """Tell whether a range without a gateway gets one."""
    is_l3 = driver == "ipvlan" and mode_of(driver, options) != "l2"
    return not internal and not is_l3 and bool(options.get(_PARENT))
