"""The texts of iptables rules; that they work is shown in tests/privileged."""

from __future__ import annotations

import pytest

from sampan.network.firewall.firewall import BridgeRules, Forward, Rules
from sampan.network.firewall.iptables_rules import CHAINS, Ruleset, port_rules

BRIDGE = BridgeRules("sampan0", "172.17.0.0/16", subnet6="fd00::/64")
PORT = Forward("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)


def tables(*bridges: BridgeRules, family: int = 4, **more: object) -> dict[str, list[str]]:
    rules = Rules(bridges, **more)  # type: ignore[arg-type]
    return Ruleset(family, rules).tables()


def test_without_bridges_there_are_no_rules() -> None:
    assert tables() == {table: [] for table in CHAINS}


def test_the_administrator_s_chain_is_asked_first() -> None:
    head = tables(BRIDGE)["filter"][:2]
    assert [rule.split()[-1] for rule in head] == ["DOCKER-FORWARD", "DOCKER-USER"]  # -I 1 each


@pytest.mark.parametrize(
    ("forward", "nat", "accept"),
    [
        (
            PORT,
            "-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            "-A DOCKER -d 172.17.0.2 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT",
        ),
        (
            Forward("udp", "2001:db8::1", 53, "fd00::2", 5353),
            "-A DOCKER -d 2001:db8::1 -p udp -m udp --dport 53 -j DNAT --to-destination "
            "[fd00::2]:5353",
            "-A DOCKER -d fd00::2 -p udp -m udp --dport 5353 -m conntrack --ctstate DNAT",
        ),
    ],
)
def test_a_port_is_one_rule_in_each_table(forward: Forward, nat: str, accept: str) -> None:
    assert port_rules("nat", [BRIDGE], forward) == [nat]
    assert port_rules("filter", [BRIDGE], forward) == [f"{accept} -j ACCEPT"]


def test_a_port_on_one_address_goes_before_one_on_all() -> None:
    forwards = [PORT, Forward("tcp", "127.0.0.1", 8080, "172.17.0.3", 80)]
    found = [rule for rule in tables(BRIDGE, forwards=forwards)["nat"] if "DNAT --to" in rule]
    assert ["-d 127.0.0.1" in rule for rule in found] == [True, False]


def test_each_family_masquerades_its_own_subnet() -> None:
    assert any("-s 172.17.0.0/16 !" in rule for rule in tables(BRIDGE)["nat"])
    six = tables(BRIDGE, family=6)
    assert any("-s fd00::/64 !" in rule for rule in six["nat"])
    assert not any("172." in rule or "127." in rule for table in six.values() for rule in table)
    plain = BridgeRules("b0", "10.0.0.0/8", masquerade=False)
    assert not any("-s 10.0.0.0/8 !" in rule for rule in tables(plain)["nat"])


def test_the_host_s_interfaces_do_not_forward_to_one_another() -> None:
    rules = tables(BRIDGE, uplinks=["eth0", "eth1"])["filter"]
    assert sum("--ctstate NEW -j DROP" in rule for rule in rules) == 4
