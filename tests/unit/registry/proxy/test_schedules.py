"""When rounds of mirroring come."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.proxy.schedules import Mirroring, is_pattern, matches

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_an_interval_is_the_time_between_two_rounds() -> None:
    assert Mirroring(("app",), interval=90.0).wait(NOON) == 90.0


@pytest.mark.parametrize(
    ("cron", "seconds"), [("*/5 * * * *", 300), ("30 3 * * *", 15.5 * 3600), ("0 12 2 3 *", 86400)]
)
def test_a_cron_says_when(cron: str, seconds: float) -> None:
    assert Mirroring(("app",), cron=cron).wait(NOON) == seconds


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "often", "0 0 31 2 *"])
def test_what_is_no_cron_is_refused(cron: str) -> None:
    with pytest.raises(InvalidArgument):
        Mirroring(("app",), cron=cron)


def test_names_are_chosen_by_patterns() -> None:
    assert matches("library/app", ["other", "library/*"])
    assert not matches("library/app", ["app"])
    assert is_pattern("a*")
    assert not is_pattern("library/app")
