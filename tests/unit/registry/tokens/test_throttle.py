from __future__ import annotations

import pytest

from sampan.registry.tokens import throttle as module
from sampan.registry.tokens.throttle import Attempts, Throttle


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def test_who_guesses_has_to_wait(clock: Clock) -> None:
    throttle = Throttle(Attempts(3, 10), Attempts(5, 1))
    for _ in range(3):
        assert throttle.wait("alice", "there") == 0
        throttle.failed("alice", "there")
    assert throttle.wait("alice", "there") == 10
    assert throttle.wait("alice", "elsewhere") == 0
    assert throttle.wait("bob", "there") == 0
    clock.now += 10
    assert throttle.wait("alice", "there") == 0
    throttle.failed("alice", "there")
    assert throttle.wait("alice", "there") == 10
    clock.now += 1000
    assert throttle.wait("alice", "there") == 0


def test_an_address_that_tries_many_names_has_to_wait(clock: Clock) -> None:
    throttle = Throttle(Attempts(3, 10), Attempts(5, 1))
    for number in range(5):
        throttle.failed(f"user{number}", "there")
    assert throttle.wait("somebody", "there") == 1
    assert throttle.wait("", "there") == 1
    assert throttle.wait("somebody", "elsewhere") == 0


def test_a_success_forgets_the_failures_of_a_name(clock: Clock) -> None:
    throttle = Throttle(Attempts(2, 10), Attempts(5, 1))
    throttle.failed("alice", "there")
    throttle.succeeded("alice", "there")
    throttle.failed("alice", "there")
    assert throttle.wait("alice", "there") == 0


def test_memory_has_an_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    throttle = Throttle(Attempts(1, 10), Attempts(5, 1))
    for number in range(100):
        throttle.failed(f"{number}", f"{number}")
    assert len(throttle._failures) == 10
    assert throttle.wait("99", "99") == 10


def test_who_has_a_network_of_ipv6_is_one(clock: Clock) -> None:
    throttle = Throttle(Attempts(2, 10), Attempts(3, 1))
    throttle.failed("alice", "2001:db8::1")
    throttle.failed("alice", "2001:db8::2")
    assert throttle.wait("alice", "2001:db8::3") == 10
    assert throttle.wait("alice", "2001:db8:0:1::3") == 0
    throttle.succeeded("alice", "2001:db8::4")
    assert throttle.wait("alice", "2001:db8::3") == 0
    throttle.failed("bob", "::ffff:192.0.2.1")
    throttle.failed("bob", "192.0.2.1")
    assert throttle.wait("bob", "192.0.2.1") == 10
    assert throttle.wait("bob", "192.0.2.2") == throttle.wait("bob", "::ffff:192.0.2.2") == 0
