"""Sizes and times in the words of go-units."""

from __future__ import annotations

import pytest

from sampan.cli.display.units import binary_size, human_duration, human_size, parse_time


@pytest.mark.parametrize(
    ("size", "digits", "text"),
    [(0, 3, "0B"), (999, 3, "999B"), (4_870_000, 3, "4.87MB"), (1_984_433, 4, "1.984MB")]
    + [(1_000_000, 3, "1MB"), (999_999, 3, "1e+03kB"), (1.2e30, 3, "1.2e+06YB")],
)
def test_a_size_has_so_many_digits(size: float, digits: int, text: str) -> None:
    assert human_size(size, digits) == text


def test_memory_is_counted_in_powers_of_two() -> None:
    assert binary_size(25_278_586_880) == "23.54GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (3600 * 47, "47 hours"),
        (86400 * 3, "3 days"),
        (86400 * 15, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_a_duration_is_told_roughly(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_times_may_have_nanoseconds_and_a_zone() -> None:
    assert parse_time("1970-01-01T00:00:01.500000000Z") == 1.5
    assert parse_time("1970-01-01T01:00:00+01:00") == 0
    assert parse_time("yesterday") is None
