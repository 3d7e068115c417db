"""The text of the rules; that they work is shown in tests/privileged/test_network_traffic.py."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.network.firewall.firewall import BridgeRules, Forward, Rules
from sampan.network.firewall.nftables import ruleset

BRIDGE = BridgeRules("sampan0", "172.17.0.0/16")


def test_the_table_is_replaced_in_one_transaction() -> None:
    lines = ruleset("mine", Rules()).splitlines()
    assert lines[:3] == ["add table inet mine", "delete table inet mine", "table inet mine {"]


def test_ports_are_elements_of_maps() -> None:
    forwards = {
        Forward("tcp", "0.0.0.0", 8080, "172.17.0.2", 80),
        Forward("udp", "127.0.0.1", 53, "172.17.0.3", 5353),
    }
    text = ruleset("t", Rules((BRIDGE,), frozenset(forwards)))
    assert "elements = { tcp . 8080 : 172.17.0.2 . 80 }" in text
    assert "elements = { udp . 127.0.0.1 . 53 : 172.17.0.3 . 5353 }" in text


@pytest.mark.parametrize(
    ("bridge", "line"),
    [
        (BridgeRules("b0", "10.0.0.0/8", masquerade=False), "oifname != @bridges"),
        (BridgeRules("b0", "10.0.0.0/8", internal=True), "oifname != @bridges"),
    ],
)
def test_masquerading_can_be_switched_off(bridge: BridgeRules, line: str) -> None:
    assert line in ruleset("t", Rules((BRIDGE,)))
    assert line not in ruleset("t", Rules((bridge,)))


def test_without_inter_container_neighbours_are_dropped_but_published_ports_pass() -> None:
    line = 'iifname "b0" oifname "b0" ct state new ct status & dnat == 0 drop'
    bridge = BridgeRules("b0", "10.0.0.0/8", inter_container=False)
    assert line in ruleset("t", Rules((bridge,)))
    assert line.replace("b0", "sampan0") not in ruleset("t", Rules((BRIDGE,)))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_an_unprotected_family_lets_in_what_is_not_published(family: str) -> None:
    rule = 'oifname "b0" iifname != "b0" ct state new ct status & dnat == 0 drop'
    modes: dict[str, Any] = {"mode" if family == "ipv4" else "mode6": "nat-unprotected"}
    text = ruleset("t", Rules((BridgeRules("b0", "10.0.0.0/8", **modes),)))
    assert f"\n  {rule}" not in text
    assert f"meta nfproto {'ipv6' if family == 'ipv4' else 'ipv4'} {rule}" in text
    both = BridgeRules("b0", "10.0.0.0/8", mode="nat-unprotected", mode6="nat-unprotected")
    assert rule not in ruleset("t", Rules((both,)))


def test_routed_ports_are_elements_of_sets_and_nothing_is_masqueraded() -> None:
    bridge = BridgeRules("b0", "10.0.0.0/8", subnet6="fd00::/64", mode="routed", mode6="routed")
    forwards = {
        Forward("tcp", "0.0.0.0", 0, "10.0.0.2", 80),
        Forward("tcp", "::", 0, "fd00::2", 80),
    }
    text = ruleset("t", Rules((bridge,), frozenset(forwards)))
    assert "elements = { tcp . 10.0.0.2 . 80 }" in text
    assert "elements = { tcp . fd00::2 . 80 }" in text
    assert "ip daddr . th dport @opened accept" in text
    assert "ip6 daddr . th dport @opened6 accept" in text
    assert "oifname != @bridges" not in text


def test_interfaces_that_did_not_forward_before_us_still_do_not() -> None:
    line = "iifname @uplinks oifname @uplinks ct state new drop"
    assert line in ruleset("t", Rules(uplinks=("eth0",)))
    assert line not in ruleset("t", Rules())


def test_ipv6_has_maps_and_masquerading_of_its_own() -> None:
    bridge = BridgeRules("b0", "10.0.0.0/8", subnet6="fd00::/64")
    forwards = {
        Forward("tcp", "::", 8080, "fd00::2", 80),
        Forward("tcp", "2001:db8::1", 8081, "fd00::2", 80),
    }
    text = ruleset("t", Rules((bridge,), frozenset(forwards), uplinks6=("eth0",)))
    assert "elements = { tcp . 8080 : fd00::2 . 80 }" in text
    assert "elements = { tcp . 2001:db8::1 . 8081 : fd00::2 . 80 }" in text
    assert "oifname != @bridges ip6 saddr fd00::/64 masquerade" in text
    assert "meta nfproto ipv6 iifname @uplinks6 oifname @uplinks6 ct state new drop" in text
