"""Times on the command line."""

from __future__ import annotations

import time

import pytest

from sampan.cli.arguments.times import timestamp
from sampan.errors import InvalidArgument


def test_an_age_is_counted_back_from_now() -> None:
    assert abs(float(timestamp("10m", "since")) - (time.time() - 600)) < 5


def test_seconds_stay_and_dates_become_seconds() -> None:
    assert timestamp("", "since") == ""
    assert timestamp("0", "since") == "0"
    assert timestamp("1136073600.000000001", "since") == "1136073600.000000001"
    assert float(timestamp("2006-01-02T15:04:05Z", "since")) == 1136214245
    assert float(timestamp("2006-01-02T15:04:05+01:00", "since")) == 1136210645


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(InvalidArgument, match='invalid value for "since"'):
        timestamp("yesterday", "since")
