"""Uploads end that nobody goes on with, and no others because a clock is wrong."""

from __future__ import annotations

import time

import pytest

from sampan.registry.database.clock import SteadyClock
from sampan.registry.upkeep.purging import HOUR, Purging
from tests.own_registry import Shop

DAY = 24 * HOUR
AGE = 7 * DAY


class Times:
    """What time of day it is, and how many seconds the registry counts."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = self.passed = 0.0
        true, begun = time.time, SteadyClock(time.time())
        monkeypatch.setattr(time, "time", lambda: true() + self.ahead + self.passed)
        monkeypatch.setattr(shop.registry.metadata, "now", lambda: begun.now() + self.passed)


@pytest.fixture
def times(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(shop, monkeypatch)


def key(place: str) -> str:
    return place.rpartition("/")[2]


def test_what_is_old_and_does_not_grow_ends_at_the_second_look(shop: Shop, times: Times) -> None:
    left, slow = shop.begin("team/app"), shop.begin("team/app")
    work = Purging(shop.registry, AGE)
    times.passed = AGE + HOUR
    assert work.look() == []
    assert work.waits()
    times.passed += HOUR
    shop.ask("PATCH", slow, b"more")
    assert work.look() == [key(left)]
    assert shop.get(slow).status == 204
    times.passed += HOUR
    assert work.look() == [key(slow)]
    assert not work.waits()


def test_a_dry_run_ends_nothing(shop: Shop, times: Times) -> None:
    place = shop.begin("team/app")
    work = Purging(shop.registry, AGE, dry_run=True)
    times.passed = AGE + HOUR
    work.look()
    times.passed += HOUR
    assert work.look() == [key(place)]
    assert shop.get(place).status == 204


def test_what_the_clock_jumps_does_not_count(shop: Shop, times: Times) -> None:
    place = shop.begin("team/app")
    work = Purging(shop.registry, AGE)
    times.ahead = 365 * DAY
    for _ in range(3):
        assert work.look() == []
        times.passed += HOUR
    assert shop.get(place).status == 204


def test_a_clock_that_was_wrong_at_the_start_has_an_hour_to_be_set(
    shop: Shop, times: Times
) -> None:
    place = shop.begin("team/app")
    times.ahead = 365 * DAY
    work = Purging(shop.registry, AGE)
    assert work.look() == []
    times.passed = HOUR - 1
    assert work.look() == []
    times.ahead = 0.0
    times.passed = HOUR
    assert work.look() == []
    assert shop.get(place).status == 204
