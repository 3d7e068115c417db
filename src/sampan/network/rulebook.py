"""The firewall's rules for all networks and endpoints, and that they stay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import suppress

from sampan.errors import SampanError, Unsupported
from sampan.network.firewall.failures import firewall_errors
from sampan.network.firewall.firewall import Firewall, Rules
from sampan.network.firewall.monitor import Monitor
from sampan.network.made import Made, rules_of
from sampan.network.plumber import BridgeSpec
from sampan.network.state import Forwarding, State

log = logging.getLogger(__name__)
#: What there is: bridges and endpoints.
Present = Callable[[], tuple[Collection[BridgeSpec], Collection[Made]]]


class Rulebook:
    """Writes the rules for what is `present`; with `watches`, notices when they are thrown away."""

    def __init__(
        self, firewall: Firewall, state: State, present: Present, *, watches: bool
    ) -> None:
        self._firewall, self._state, self._present = firewall, state, present
        self._monitor = Monitor() if watches else None
        self.is_suspicious = False  # the firewall may have lost rules of ours

    def write(self) -> None:
        """Put the rules for what there is now in place of all of ours."""
        bridges, endpoints = self._present()
        forwarding = self._state.forwarding()
        if not bridges and not forwarding:
            with suppress(Unsupported), firewall_errors():  # without the library: no rules of ours
                self._firewall.clear()
            return
        known = forwarding or Forwarding()
        rules = Rules(
            bridges=tuple(rules_of(bridge) for bridge in bridges),
            forwards=frozenset(it for endpoint in endpoints for it in endpoint.forwards),
            uplinks=tuple(known.uplinks),
            uplinks6=tuple(known.uplinks6),
            pairs=tuple(pair for endpoint in endpoints for pair in endpoint.pairs),
        )
        with firewall_errors():
            self._firewall.apply(rules)

    def admit(self, bridge: BridgeSpec) -> None:
        """Let the host's own rules pass what a bridge forwards."""
        with firewall_errors():
            self._firewall.admit(bridge.name)

    def dismiss(self, bridge: BridgeSpec) -> None:
        """Take back `admit`."""
        with firewall_errors():
            self._firewall.dismiss(bridge.name)

    def restore(self) -> None:
        """Write the rules anew if somebody has thrown them away: a reload of the firewall does."""
        self.is_suspicious = False
        try:
            if not self._firewall.is_intact():
                log.warning("the firewall has lost our rules: they are written anew")
                self.write()
                for bridge in self._present()[0]:
                    self._firewall.admit(bridge.name)
        except (OSError, SampanError) as error:
            log.warning("the firewall's rules are not as they should be: %s", error)

    def watched(self) -> list[int]:
        """Return the descriptor that is readable when any rule of the host has changed."""
        return self._monitor.watched() if self._monitor else []

    def handle(self, descriptor: int) -> None:
        """Note that rules of the host have changed."""
        if self._monitor and descriptor in self._monitor.watched():
            self._monitor.drain()
            self.is_suspicious = True

    def close(self) -> None:
        """Watch no longer; rules stay."""
        if self._monitor:
            self._monitor.close()
