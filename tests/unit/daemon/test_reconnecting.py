"""A stand-in whose helper may be replaced at any time."""

from __future__ import annotations

import os
import socket
import threading
from typing import Protocol

import pytest

from sampan import rpc
from sampan.daemon import reconnecting as helpers
from sampan.daemon.reconnecting import Reconnecting
from sampan.errors import NotFound, Unavailable
from tests.session import PATIENCE, eventually


class Greeter(Protocol):
    def greet(self, name: str) -> str:
        """Greet."""


class Polite:
    def __init__(self, word: str) -> None:
        self.word = word

    def greet(self, name: str) -> str:
        if name == "nobody":
            raise NotFound("there is nobody")
        if name == "busy":
            raise Unavailable("not now")
        return f"{self.word} {name}"


def helper(word: str) -> socket.socket:
    """Start a helper in a thread; it ends when the returned socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def serve() -> None:
        with theirs:
            rpc.serve(theirs, Greeter, Polite(word))

    threading.Thread(target=serve).start()
    return ours


@pytest.fixture
def reconnecting() -> Reconnecting[Greeter]:
    return Reconnecting(Greeter, "greeting")  # type: ignore[type-abstract]


def test_calls_go_to_the_helper_that_was_handed_over_last(
    reconnecting: Reconnecting[Greeter],
) -> None:
    greeter = reconnecting.stand_in()
    reconnecting.replace(helper("hello"))
    assert greeter.greet("x") == "hello x"
    reconnecting.replace(helper("good day"))
    assert greeter.greet("x") == "good day x"
    with pytest.raises(NotFound, match="there is nobody"):
        greeter.greet("nobody")
    reconnecting.close()


def test_a_call_waits_for_the_first_helper(reconnecting: Reconnecting[Greeter]) -> None:
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(reconnecting.stand_in().greet("early")))
    caller.start()
    reconnecting.replace(helper("hello"))
    caller.join(PATIENCE)
    assert answers == ["hello early"]
    reconnecting.close()


def dead() -> socket.socket:
    """Return the socket of a helper that has died, of which nobody has told us."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    return ours


def test_a_call_that_a_dead_helper_never_got_waits_for_the_next_one(
    reconnecting: Reconnecting[Greeter],
) -> None:
    reconnecting.replace(dead())
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(reconnecting.stand_in().greet("x")))
    caller.start()
    eventually(lambda: reconnecting._client is None)  # it has noticed
    reconnecting.replace(helper("again"))
    caller.join(PATIENCE)
    assert answers == ["again x"]
    reconnecting.close()


def test_a_call_whose_socket_is_closed_under_it_goes_to_the_next_helper(
    reconnecting: Reconnecting[Greeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    reconnecting.replace(helper("hello"))
    current = reconnecting._current

    def replaced_meanwhile(end: float) -> Greeter:
        monkeypatch.setattr(reconnecting, "_current", current)
        client = current(end)
        reconnecting.replace(helper("again"))
        return client

    monkeypatch.setattr(reconnecting, "_current", replaced_meanwhile)
    assert reconnecting.stand_in().greet("x") == "again x"
    reconnecting.close()


def test_nobody_waits_for_a_helper_that_never_comes(
    reconnecting: Reconnecting[Greeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "REPLACEMENT_SECONDS", 3 * PATIENCE)
    failures: list[str] = []

    def ask() -> None:
        with pytest.raises(Unavailable) as failure:
            reconnecting.stand_in().greet("x")
        failures.append(str(failure.value))

    reconnecting.replace(dead())
    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    eventually(lambda: reconnecting._client is None)  # it waits for another one
    reconnecting.close()
    later = threading.Thread(target=ask, daemon=True)
    later.start()
    for caller in (waiting, later):
        caller.join(PATIENCE)
    assert failures == ["the greeting helper does not answer"] * 2


def test_a_dead_helper_is_told_and_the_next_one_is_used(
    reconnecting: Reconnecting[Greeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "REPLACEMENT_SECONDS", 0.01)
    reconnecting.replace(dead())
    greeter = reconnecting.stand_in()
    for _ in range(2):
        with pytest.raises(Unavailable, match="the greeting helper does not answer"):
            greeter.greet("x")
    monkeypatch.undo()
    reconnecting.replace(helper("again"))
    assert greeter.greet("x") == "again x"
    reconnecting.close()


def test_a_helper_that_closes_one_socket_after_the_other_is_dead_all_the_same(
    reconnecting: Reconnecting[Greeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "DYING_MILLISECONDS", PATIENCE * 1000)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def die() -> None:
        _, lent, _, _ = socket.recv_fds(theirs, 1 << 16, 4)
        for number in lent:
            os.close(number)  # that of the answer: the caller knows now
        slow = threading.Timer(0.05, theirs.close)
        slow.start()
        slow.join()

    dying = threading.Thread(target=die)
    dying.start()
    reconnecting.replace(ours)
    greeter = reconnecting.stand_in()
    with pytest.raises(Unavailable, match="the greeting helper is gone"):
        greeter.greet("x")
    dying.join()
    reconnecting.replace(helper("hello"))
    assert greeter.greet("x") == "hello x"
    reconnecting.close()


def test_a_helper_that_lives_is_kept_whatever_it_refuses(
    reconnecting: Reconnecting[Greeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "REPLACEMENT_SECONDS", 0.1)
    reconnecting.replace(helper("hello"))
    greeter = reconnecting.stand_in()
    with pytest.raises(Unavailable, match="not now"):
        greeter.greet("busy")
    assert greeter.greet("you") == "hello you"
    reconnecting.close()
