"""The table in the kernel, and whether it is noticed that something of it is gone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from sampan.network.firewall.firewall import BridgeRules, Forward, Pair, Rules
from sampan.network.firewall.nftables import Nftables
from tests.netns import hosts

pytestmark = pytest.mark.privileged

RULES = Rules(
    bridges=(
        BridgeRules("sampan0", "172.17.0.0/16"),
        BridgeRules("br-apart", "10.1.0.0/16", inter_container=False, subnet6="fd00:1::/64"),
        BridgeRules("br-inside", "10.2.0.0/16", internal=True),
        BridgeRules("br-routed", "10.3.0.0/16", mode="routed", mode6="routed"),
        BridgeRules("br-open", "10.4.0.0/16", mode="nat-unprotected"),
        BridgeRules("br-four", "10.5.0.0/16", filters6=False),
    ),
    forwards=frozenset(
        {
            *(Forward("tcp", "0.0.0.0", port, "172.17.0.2", 80) for port in range(8000, 8100)),
            Forward("udp", "127.0.0.1", 53, "172.17.0.3", 53),
            Forward("tcp", "::", 8080, "fd00:1::2", 80),
            Forward("tcp", "0.0.0.0", 0, "10.3.0.2", 80),
        }
    ),
    uplinks=("uplink0",),
    uplinks6=("uplink0",),
    pairs=(Pair("10.1.0.2", "10.1.0.3", "tcp", 80),),
)


@pytest.fixture
def table() -> Iterator[Nftables]:
    with hosts():
        made = Nftables("mine")
        made.apply(RULES)
        yield made
        made.close()


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


def test_a_table_that_nobody_touched_is_intact_whatever_is_published(table: Nftables) -> None:
    assert table.is_intact()
    table.add([Forward("tcp", "0.0.0.0", 9000, "172.17.0.2", 80)])
    table.remove([Forward("udp", "127.0.0.1", 53, "172.17.0.3", 53)])
    assert table.is_intact()
    table.apply(Rules())
    assert table.is_intact()


@pytest.mark.parametrize(
    "command",
    ["flush ruleset", "flush table inet mine", "flush chain inet mine guard"],
)
def test_what_somebody_threw_away_is_noticed(table: Nftables, command: str) -> None:
    nft(*command.split())
    assert not table.is_intact()
    table.apply(RULES)
    assert table.is_intact()


def test_one_rule_that_is_missing_is_noticed(table: Nftables) -> None:
    listed = nft("-a", "list", "chain", "inet", "mine", "forward")
    handles = re.findall(r"drop # handle (\d+)", listed)
    nft("delete", "rule", "inet", "mine", "forward", "handle", handles[3])
    assert not table.is_intact()
