"""Who is found by whom."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest

from sampan.network.resolver.contract import Client, Record
from sampan.network.resolver.zones import Zones

CLIENT = Client(container_id="c", networks=["n1", "n2"], aliases={"db": "postgres"})


def record(number: int, *names: str, network: str = "n1", domain: str = "back") -> Record:
    return Record(
        endpoint_id=f"e{number}",
        network_id=network,
        domain=domain,
        names=list(names),
        addresses=[f"172.18.0.{number}"],
    )


@pytest.fixture
def zones() -> Zones:
    return Zones()


def found(zones: Zones, name: str, client: Client = CLIENT) -> list[str] | None:
    addresses = zones.addresses(client, name, ipv6=False)
    return None if addresses is None else [str(ip_address(each)) for each in addresses]


def test_an_endpoint_is_found_by_each_of_its_names_also_with_the_network_s(zones: Zones) -> None:
    zones.note(record(2, "Web", "www", "0123456789ab"))
    for name in ("web", "www", "0123456789ab", "web.back", "www.back"):
        assert found(zones, name) == ["172.18.0.2"]
    for name in ("back", "web.other", "x.web", "web.back.back", ""):
        assert found(zones, name) is None


def test_names_are_found_on_networks_of_the_client_only(zones: Zones) -> None:
    zones.note(record(2, "web", network="n3"))
    assert found(zones, "web") is None
    zones.note(record(3, "web", network="n2", domain="front"))
    assert found(zones, "web") == ["172.18.0.3"]
    zones.note(record(4, "web", network="n1"))
    assert found(zones, "web") == ["172.18.0.4"]  # the preferred network's
    assert found(zones, "web.front") == ["172.18.0.3"]


def test_endpoints_of_one_name_take_turns_for_each_family(zones: Zones) -> None:
    for number in (2, 3, 4):
        zones.note(record(number, f"c{number}", "web"))
    firsts: Counter[str] = Counter()
    for _ in range(30):
        addresses = found(zones, "web")
        assert addresses is not None
        firsts[addresses[0]] += 1
        assert zones.addresses(CLIENT, "web", ipv6=True) == []
    assert set(firsts.values()) == {10}


def test_a_private_alias_is_the_client_s_alone(zones: Zones) -> None:
    zones.note(record(2, "postgres"))
    assert found(zones, "db") == ["172.18.0.2"]
    assert found(zones, "db", Client(container_id="d", networks=["n1"])) is None


def test_an_address_leads_to_the_first_name_with_the_network_s(zones: Zones) -> None:
    zones.note(record(2, "web", "www"))
    assert zones.pointer(CLIENT, ip_address("172.18.0.2")) == b"\3web\4back\0"
    assert zones.pointer(CLIENT, ip_address("172.18.0.3")) is None


def test_a_replaced_record_is_found_by_its_new_names_only(zones: Zones) -> None:
    zones.note(record(2, "old"))
    zones.note(record(2, "new"))
    assert found(zones, "old") is None
    assert found(zones, "new") == ["172.18.0.2"]
    zones.drop("e2")
    zones.drop("e2")
    assert found(zones, "new") is None


def test_only_what_is_kept_stays(zones: Zones) -> None:
    zones.clients = {"c": CLIENT, "d": Client(container_id="d")}
    zones.note(record(2, "web"))
    zones.note(record(3, "cache"))
    assert zones.keep(["c"], ["e3"]) == ["d"]
    assert found(zones, "web") is None
    assert found(zones, "cache") == ["172.18.0.3"]


def test_a_name_that_is_none_for_dns_has_no_pointer(zones: Zones) -> None:
    zones.note(record(2, "x" * 100))
    assert zones.pointer(CLIENT, ip_address("172.18.0.2")) is None
    assert found(zones, "x" * 100) == ["172.18.0.2"]
