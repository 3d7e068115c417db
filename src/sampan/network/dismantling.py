"""The end of all networks: nothing of ours stays on the host."""

from __future__ import annotations

from pathlib import Path

from sampan.network.firewall.choice import DEFAULT, choose
from sampan.network.forwarding import forward_no_longer
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.state import State


def dismantle(state: Path, owner: str = "sampan") -> None:
    """Remove bridges, endpoints, plugs and rules, whoever made them with this mark.

    Of that plumber only the folder `state` may be left, or not even that.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    firewall = choose(DEFAULT, owner, state)  # another one's rules go with that
    plumber = LinuxPlumber(state, owner=owner, firewall=firewall)
    try:
        plumber.reconcile([], [])
        # First that, then the rules that kept the host's own interfaces apart meanwhile.
        if noted := State(state).forwarding():
            forward_no_longer(noted)
        firewall.clear()
    finally:
        plumber.close()
