"""Texts that are addresses."""

from __future__ import annotations

import pytest

from sampan.spec.addresses import is_address


@pytest.mark.parametrize("text", ["10.0.0.1", "::", "fe80::1", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_addresses_of_both_kinds_are_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", ["", "10.0.0", "010.0.0.1", "10.0.0.1/8", "[::1]", "10.0.0.1%x"])
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert not is_address(text)
