"""Points in time, as filters have them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.times import parse_time

NOW = 2_000_000_000 * 10**9
SECOND = 10**9


@pytest.fixture
def zone() -> Iterator[None]:
    """Be two hours ahead of UTC."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(os.environ, "TZ", "XYZ-2")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-1", -SECOND),
        ("1500000000", 1_500_000_000 * SECOND),
        ("1500000000.000000001", 1_500_000_000 * SECOND + 1),
        ("1500000000.0000000019", 1_500_000_000 * SECOND + 1),
        ("10m", NOW - 600 * SECOND),
        ("-10m", NOW + 600 * SECOND),
        ("2017-07-14T02:40:00Z", 1_500_000_000 * SECOND),
        ("2017-07-14T04:40:00+02:00", 1_500_000_000 * SECOND),
        ("2017-07-14T04:40:00", 1_500_000_000 * SECOND),
    ],
)
@pytest.mark.usefixtures("zone")
def test_a_moment_is_seconds_an_age_or_a_date_of_here(text: str, nanoseconds: int) -> None:
    assert parse_time(text, NOW) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "1500000000.", "9" * 5000, "٣", "0001-01-01", "9999-12-32T00:00:00Z"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        parse_time(text)


@given(st.text())
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        parse_time(text)
    except InvalidArgument:
        pass
