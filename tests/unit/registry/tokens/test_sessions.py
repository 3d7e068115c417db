from __future__ import annotations

from typing import Any

import pytest

from sampan.registry.tokens import sessions as module
from sampan.registry.tokens.accounts import Accounts
from sampan.registry.tokens.sessions import Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, book: Accounts) -> Clock:
    found = Clock()
    book.add_user("alice", "secret")
    monkeypatch.setattr(module, "time", found)
    return found


def test_a_token_says_who_somebody_is_as_often_as_they_like(book: Accounts, clock: Clock) -> None:
    sessions = Sessions(book, 100, rotate=False)
    token = sessions.begin("alice", "hub", "docker")
    for _ in range(3):
        assert sessions.use(token, "hub") == ("alice", "")
    key = token.partition(".")[0]
    for wrong in ("", "x", key, f"{key}.", f"{key}.x", f"x.{token}", token + "x"):
        assert sessions.use(wrong, "hub") is None
    assert sessions.use(token, "other") is None


def test_a_token_that_nobody_uses_expires(book: Accounts, clock: Clock) -> None:
    sessions = Sessions(book, 100, rotate=False)
    token = sessions.begin("alice", "hub", "docker")
    for _ in range(3):
        clock.now += 90
        assert sessions.use(token, "hub")
    clock.now += 101
    assert sessions.use(token, "hub") is None
    assert sessions.all() == []


def test_the_file_does_not_hold_what_opens(book: Accounts, clock: Clock) -> None:
    secret = Sessions(book, 100, rotate=False).begin("alice", "hub", "docker").partition(".")[2]
    assert all(secret not in str(row) for row in book.rows("SELECT * FROM sessions"))


def test_a_rotated_token_that_comes_back_ends_its_family(
    book: Accounts, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions(book, 1000, rotate=True)
    first = sessions.begin("alice", "hub", "docker")
    other = sessions.begin("alice", "hub", "docker")
    used = sessions.use(first, "hub")
    assert used
    second = used[1]
    assert second not in ("", first)
    clock.now += 10  # two pulls of one client begin at once
    assert sessions.use(first, "hub")
    clock.now += 100
    assert sessions.use(second, "hub")
    assert sessions.use(first, "hub") is None
    assert "came back" in caplog.text
    assert sessions.use(second, "hub") is None
    assert sessions.use(other, "hub")


@pytest.mark.parametrize("way", ["revoke", "end", "end by id", "password", "disable", "remove"])
def test_a_login_can_be_ended(book: Accounts, clock: Clock, way: str) -> None:
    sessions = Sessions(book, 100, rotate=False)
    token = sessions.begin("alice", "hub", "docker")
    sessions.revoke("x.y")
    sessions.revoke(token + "x")
    assert sessions.use(token, "hub")
    {
        "revoke": lambda: sessions.revoke(token),
        "end": lambda: sessions.end(user="alice"),
        "end by id": lambda: sessions.end(id=sessions.all()[0].id),
        "password": lambda: book.set_password("alice", "other"),
        "disable": lambda: book.disable("alice", True),
        "remove": lambda: book.remove_user("alice"),
    }[way]()
    assert sessions.use(token, "hub") is None


def test_a_user_has_no_more_logins_than_one_can_count(
    book: Accounts, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EACH", 3)
    sessions = Sessions(book, 100, rotate=False)
    tokens = []
    for _ in range(5):
        clock.now += 1
        tokens.append(sessions.begin("alice", "hub", "x" * 10_000))
    assert [bool(sessions.use(token, "hub")) for token in tokens] == [False] * 2 + [True] * 3


@pytest.mark.parametrize("rotate", [True, False])
def test_a_login_that_ends_while_it_is_used_has_ended(
    book: Accounts, clock: Clock, monkeypatch: pytest.MonkeyPatch, rotate: bool
) -> None:
    sessions = Sessions(book, 100, rotate)
    token = sessions.begin("alice", "hub", "docker")
    rows = book.rows

    def looked(query: str, *values: object) -> list[tuple[Any, ...]]:
        found = rows(query, *values)
        book.set_password("alice", "other")
        return found

    monkeypatch.setattr(book, "rows", looked)
    assert sessions.use(token, "hub") is None
    monkeypatch.undo()
    assert book.rows("SELECT * FROM sessions") == []


def test_a_clock_that_is_set_ends_no_login(book: Accounts, clock: Clock) -> None:
    sessions = Sessions(book, 100, rotate=False)
    token = sessions.begin("alice", "hub", "docker")
    clock.now += 1e8
    assert sessions.use(token, "hub") is None
    sessions.begin("alice", "hub", "docker")
    clock.now -= 1e8
    assert sessions.use(token, "hub") == ("alice", "")


def test_a_replaced_token_does_not_come_back_by_a_clock_that_was_ahead(
    book: Accounts, clock: Clock
) -> None:
    sessions = Sessions(book, 1000, rotate=True)
    first = sessions.begin("alice", "hub", "docker")
    clock.now += 900
    assert sessions.use(first, "hub")
    clock.now -= 900
    assert sessions.use(first, "hub") is None
