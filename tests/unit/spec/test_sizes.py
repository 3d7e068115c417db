"""Sizes as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.spec.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("0", 0), ("32", 32), ("32b", 32), ("32k", 32 << 10), ("32KB", 32 << 10)),
        *(("32 MiB", 32 << 20), ("10G", 10 << 30), ("1.5g", 3 << 29), ("2tb", 2 << 40)),
        *(("1P", 1 << 50), (" 7m ", 7 << 20)),
    ],
)
def test_units_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1x", "1 2", "1.", "1..2g", "٣", "1" * 33, "9" * 7 + "P"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_size(text)


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    with suppress(ValueError):
        assert parse_size(text) >= 0
