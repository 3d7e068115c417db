"""Options about networks that cannot work are refused by name, before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.daemon.configuration.configuring import load
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.configuration.network_options import address_pools, without_effect

EXCLUSIVE = "You specified -b & --{}, mutually exclusive options. Please specify only one"


def configured(tmp_path: Path, document: dict[str, Any]) -> Any:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps(document))
    return load([f"--config-file={file}"])


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"bip": "10.0.0.300/24"}, "invalid bip: "),
        ({"bip": "fd00::1/64"}, "invalid bip: fd00::1/64 is no IPv4 address"),
        ({"bip6": "10.0.0.1/8"}, "invalid bip6: 10.0.0.1/8 is no IPv6 address"),
        ({"fixed-cidr": "10.0.0.1/8"}, "invalid fixed-cidr: 10.0.0.1/8 has host bits set"),
        ({"fixed-cidr-v6": "lots"}, "invalid fixed-cidr-v6: "),
        ({"default-gateway": "gate"}, "invalid default-gateway: "),
        ({"default-gateway-v6": "10.0.0.1"}, "invalid default-gateway-v6: 10.0.0.1 is no IPv6"),
        ({"ip": "0.0.0"}, "invalid ip: "),
        ({"host-gateway-ip": "x"}, "invalid host-gateway-ip: "),
        ({"dns": ["9.9.9.9", "quad9"]}, "invalid dns: 'quad9'"),
        (
            {"bip": "10.1.0.1/24", "fixed-cidr": "10.2.0.0/25"},
            "invalid fixed-cidr: 10.2.0.0/25 is not within bip 10.1.0.1/24",
        ),
        (
            {"bip": "10.1.0.1/24", "default-gateway": "10.1.1.1"},
            "invalid default-gateway: 10.1.1.1 is not within bip 10.1.0.1/24",
        ),
        (
            {"bip6": "fd00:1::1/64", "fixed-cidr-v6": "fd00:2::/80"},
            "invalid fixed-cidr-v6: fd00:2::/80 is not within bip6 fd00:1::1/64",
        ),
        ({"bridge": "none", "bip": "10.1.0.1/24"}, EXCLUSIVE.format("bip")),
        ({"bridge": "none", "fixed-cidr": "10.1.0.0/24"}, EXCLUSIVE.format("fixed-cidr")),
        ({"iptables": False, "icc": False}, "You specified --iptables=false with --icc=false."),
        ({"ip6tables": False, "icc": False}, "You specified --ip6tables=false with --icc=false."),
        (
            {"iptables": False, "firewall-backend": "iptables"},
            "You specified --iptables=false & --firewall-backend, mutually exclusive options.",
        ),
        ({"default-address-pools": [{"base": "10.0.0.0/8"}]}, "invalid default address pool: "),
        (
            {"default-address-pools": [{"base": "10.0.0.0/24", "size": 16}]},
            "invalid default address pool: 10.0.0.0/24 has no networks of size 16",
        ),
        (
            {"default-address-pools": [{"base": "10.0.0.1/8", "size": 16}]},
            "invalid default address pool: 10.0.0.1/8 has host bits set",
        ),
        ({"bipp": "10.0.0.1/8"}, "don't match any configuration option: bipp"),
        ({"bip": ["10.0.0.1/8"]}, "invalid JSON: bip must be str"),
        ({"icc": "false"}, "invalid JSON: icc must be bool"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    tmp_path: Path, document: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        configured(tmp_path, document)
    assert sentence in str(refused.value)


def test_what_fits_together_is_taken(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        {
            "bip": "10.61.0.1/24",
            "fixed-cidr": "10.61.0.128/25",
            "default-gateway": "10.61.0.9",
            "dns": ["192.0.2.53", "2001:db8::53"],
            "icc": False,
            "ip": "127.0.0.1",
            "default-address-pools": [{"base": "10.62.0.0/16", "size": 24}],
        },
    )
    assert address_pools(config["default-address-pool"]) == (("10.62.0.0/16", 24),)
    assert list(without_effect(config)) == []


def test_pools_are_written_alike_on_the_command_line() -> None:
    config = load(["--default-address-pool", "base=10.62.0.0/16,size=24"])
    assert address_pools(config["default-address-pool"]) == (("10.62.0.0/16", 24),)


def test_an_option_that_changes_nothing_is_a_warning(tmp_path: Path) -> None:
    config = configured(tmp_path, {"fixed-cidr-v6": "fd00:61::/64"})
    [warning] = without_effect(config)
    assert "--fixed-cidr-v6 has no effect" in warning
