"""Durations as Go reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.spec.durations import format_duration, parse_duration

SECOND = 10**9
LONGEST = (1 << 63) - 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1s", 1),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("2ms", 0.002),
        ("-1m", -60),
    ],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert parse_duration(text) == int(seconds * SECOND)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid duration"),
        ("-", "invalid duration"),
        ("s", "invalid duration"),
        ("1", "missing unit in duration"),
        ("1x", 'unknown unit "x" in duration'),
        ("1s ", 'unknown unit "s " in duration'),
        ("9223372036854775808ns", "invalid duration"),
    ],
)
def test_what_is_no_duration_is_refused_in_gos_words(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^time: {reason}"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["0s", "1ns", "1.5µs", "300ms", "1s", "1.5s", "59.999999999s", "1m0s", "1m30s", "1h0m0s",
     "27h46m40s", "-1m30s"],
)  # fmt: skip
def test_a_duration_is_written_as_go_does(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


@given(st.integers(-LONGEST, LONGEST))
def test_what_is_written_is_read_again(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds
