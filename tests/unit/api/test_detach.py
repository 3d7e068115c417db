"""Detach keys, as the terminal sends them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.detach import DEFAULT_KEYS, Escape, parse_keys
from sampan.errors import InvalidArgument


def test_the_default_is_ctrl_p_ctrl_q() -> None:
    assert parse_keys("") == b"\x10\x11" == parse_keys("ctrl-p,ctrl-q")


@pytest.mark.parametrize(
    ("text", "keys"),
    [("a", b"a"), ("ctrl-@", b"\0"), ("ctrl-[,x", b"\x1bx"), ("DEL", b"\x7f"), ("ctrl-z", b"\x1a")],
)
def test_named_keys_are_control_characters(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-aa", "a,,b", "é", "ctrl-A", ","])
def test_unknown_keys_are_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"Invalid detach keys .* provided"):
        parse_keys(text)


def test_the_sequence_detaches_and_is_not_passed_on() -> None:
    assert Escape(DEFAULT_KEYS).feed(b"ls\n\x10\x11rest") == (b"ls\n", True)


def test_the_sequence_is_found_across_reads() -> None:
    escape = Escape(DEFAULT_KEYS)
    assert escape.feed(b"a\x10") == (b"a", False)
    assert escape.feed(b"\x11") == (b"", True)


def test_the_beginning_of_the_sequence_is_passed_on_when_something_else_follows() -> None:
    escape = Escape(DEFAULT_KEYS)
    assert escape.feed(b"\x10") == (b"", False)
    assert escape.feed(b"x") == (b"\x10x", False)
    assert escape.feed(b"\x10") == (b"", False)
    assert escape.feed(b"\x10\x11") == (b"\x10", True)


@given(st.lists(st.binary(max_size=8), max_size=8), st.binary(min_size=1, max_size=3))
def test_nothing_is_lost_or_added(pieces: list[bytes], keys: bytes) -> None:
    escape, passed = Escape(keys), b""
    for piece in pieces:
        out, detached = escape.feed(piece)
        passed += out
        if detached:
            assert b"".join(pieces).startswith(passed + keys)
            return
    whole = b"".join(pieces)
    assert whole.startswith(passed)
    assert keys.startswith(whole[len(passed) :])


def test_a_single_key_detaches() -> None:
    assert Escape(b"q").feed(b"abq") == (b"ab", True)
