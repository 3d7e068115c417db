"""The texts of the iptables rules. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.network.firewall.firewall import BridgeRules, Forward, Pair, Rules

MARK: Final = "sampan"
USER: Final = "DOCKER-USER"
FORWARD, STAGE_1, STAGE_2 = "DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"
#: Our own chains by table, in the order in which they can be removed.
CHAINS: Final[dict[str, tuple[str, ...]]] = {
    "filter": (FORWARD, STAGE_1, STAGE_2, "DOCKER"),
    "nat": ("DOCKER",),
    "raw": (),
}
_COMMENT: Final = f"-m comment --comment {MARK}"
_PUBLISHED: Final = "-m conntrack --ctstate DNAT"
_ANY: Final = ("0.0.0.0", "::")
_ICMP: Final = {4: "icmp", 6: "ipv6-icmp"}


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of one family."""

    family: int
    rules: Rules

    @property
    def bridges(self) -> Sequence[BridgeRules]:
        """Return the bridges, which are the same for both families."""
        return self.rules.bridges

    @property
    def forwards(self) -> Sequence[Forward]:
        """Return the published ports, those of one address before those of any."""
        is_six = self.family == 6
        mine = [it for it in self.rules.forwards if (":" in it.host_address) == is_six]
        return sorted(mine, key=lambda it: (it.host_address in _ANY, str(it)))

    @property
    def uplinks(self) -> Sequence[str]:
        """Return the interfaces between which nothing is forwarded."""
        return self.rules.uplinks6 if self.family == 6 else self.rules.uplinks

    @property
    def pairs(self) -> Sequence[Pair]:
        """Return who may reach whom."""
        return self.rules.pairs if self.family == 4 else ()

    def tables(self) -> dict[str, list[str]]:
        """Return the rules by table, ours in the kernel's chains marked."""
        if not self.bridges and not self.uplinks:
            return {table: [] for table in CHAINS}
        ports = self.forwards
        return {
            "filter": [
                # At the head, whatever was there before: the administrator's first.
                f"-I FORWARD 1 {_COMMENT} -j {FORWARD}",
                f"-I FORWARD 1 {_COMMENT} -j {USER}",
                *self._filter(),
                *(rule for port in ports for rule in port_rules("filter", self.bridges, port)),
                *self._linked(),
            ],
            "nat": [
                *self._nat(),
                *(rule for port in ports for rule in port_rules("nat", self.bridges, port)),
            ],
            "raw": [
                # route_localnet, which makes ports published on 127.0.0.1 answer, must not let
                # containers reach what listens on the host's loopback.
                f"-A PREROUTING -i {bridge.interface} -d 127.0.0.0/8 {_COMMENT} -j DROP"
                for bridge in self.bridges
                if self.family == 4
            ],
        }

    def _mode(self, bridge: BridgeRules) -> str:
        return bridge.mode if self.family == 4 else bridge.mode6

    def _subnet(self, bridge: BridgeRules) -> str:
        return bridge.subnet if self.family == 4 else bridge.subnet6

    def _filter(self) -> Iterator[str]:
        for bridge in self.bridges:
            answers = "-m conntrack --ctstate RELATED,ESTABLISHED"
            yield f"-A {FORWARD} -o {bridge.interface} {answers} -j ACCEPT"
        yield f"-A {FORWARD} -j {STAGE_1}"
        for bridge in self.bridges:
            name = bridge.interface
            between = "ACCEPT" if bridge.inter_container else "DROP"
            yield f"-A {FORWARD} -o {name} -j DOCKER"
            yield f"-A {FORWARD} -i {name} -o {name} -j {between}"
            if self._mode(bridge) == "routed":
                yield f"-A {FORWARD} -o {name} -p {_ICMP[self.family]} -j ACCEPT"
            if self._mode(bridge) != "nat-unprotected":
                yield f"-A {FORWARD} ! -i {name} -o {name} -j DROP"  # what is not published
            yield f"-A {FORWARD} -i {name} ! -o {name} -j ACCEPT"
        for one in self.uplinks:
            for other in self.uplinks:
                yield f"-A {FORWARD} -i {one} -o {other} -m conntrack --ctstate NEW -j DROP"
        for bridge in self.bridges:
            name = bridge.interface
            if bridge.internal:
                yield f"-A {STAGE_1} -i {name} ! -o {name} -j DROP"
                yield f"-A {STAGE_1} ! -i {name} -o {name} -j DROP"
            yield f"-A {STAGE_1} -i {name} ! -o {name} -j {STAGE_2}"
            # Through the host's address a published port of another network answers.
            yield f"-A {STAGE_2} -o {name} {_PUBLISHED} -j RETURN"
            if self._mode(bridge) not in ("routed", "nat-unprotected"):
                yield f"-A {STAGE_2} -o {name} -j DROP"

    def _linked(self) -> Iterator[str]:
        for pair in self.pairs:
            protocol = f"-p {pair.protocol} -m {pair.protocol}"
            there = f"-s {pair.client} -d {pair.server} {protocol} --dport {pair.port}"
            back = f"-s {pair.server} -d {pair.client} {protocol} --sport {pair.port}"
            yield f"-A DOCKER {there} -j ACCEPT"
            yield f"-A DOCKER {back} -j ACCEPT"

    def _nat(self) -> Iterator[str]:
        local = "-m addrtype --dst-type LOCAL"
        for chain in ("PREROUTING", "OUTPUT"):
            yield f"-A {chain} {local} {_COMMENT} -j DOCKER"
        if self.family == 6:  # what comes from ::1 cannot leave the host: a relay listens there
            yield "-A DOCKER -d ::1/128 -j RETURN"
        for bridge in self.bridges:
            name = bridge.interface
            masquerade = f"{_COMMENT} -j MASQUERADE"
            if self.family == 4:
                yield f"-A POSTROUTING -s 127.0.0.0/8 -o {name} {masquerade}"
            if subnet := self._subnet(bridge):
                yield f"-A POSTROUTING -s {subnet} -o {name} {_PUBLISHED} {masquerade}"
                is_routed = self._mode(bridge) == "routed"
                if bridge.masquerade and not bridge.internal and not is_routed:
                    yield f"-A POSTROUTING -s {subnet} ! -o {name} {masquerade}"


def port_rules(table: str, bridges: Sequence[BridgeRules], forward: Forward) -> list[str]:
    """Return the rules of one published port in a table."""
    protocol = f"-p {forward.protocol} -m {forward.protocol}"
    target = forward.container_address
    if not forward.host_port:
        opened = f"-A DOCKER -d {target} {protocol} --dport {forward.container_port} -j ACCEPT"
        return [opened] if table == "filter" else []
    if table == "nat":
        host = "" if forward.host_address in _ANY else f" -d {forward.host_address}"
        shown = f"[{target}]" if ":" in target else target
        to = f"-j DNAT --to-destination {shown}:{forward.container_port}"
        return [f"-A DOCKER{host} {protocol} --dport {forward.host_port} {to}"]
    port = f"{protocol} --dport {forward.container_port}"
    return [f"-A DOCKER -d {target} {port} {_PUBLISHED} -j ACCEPT"]
