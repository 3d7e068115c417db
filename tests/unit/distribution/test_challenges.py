"""WWW-Authenticate, as registries write it and as nobody should."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.distribution.challenges import Challenge, challenge_for, parse_challenges

WORD = st.text("abcdefghijklmnopqrstuvwxyz-_.0123456789", min_size=1, max_size=20)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'Bearer realm="https://auth.example/token",service="registry",scope="a:b:pull,push"',
            [("bearer", {
                "realm": "https://auth.example/token",
                "service": "registry",
                "scope": "a:b:pull,push",
            })],
        ),
        ('Basic realm="a \\"quoted\\" word"', [("basic", {"realm": 'a "quoted" word'})]),
        ("Basic", [("basic", {})]),
        ("BASIC realm=x, Bearer realm=y,service=z", [
            ("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"}),
        ]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate dG9rZW4=, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm = "x" , service="y"', [("bearer", {"realm": "x", "service": "y"})]),
        ('Bearer realm="x",realm="y"', [("bearer", {"realm": "x"})]),
        ("", []),
        ('"', []),
    ],
)  # fmt: skip
def test_challenges_are_read(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges([text]) == [Challenge(name, values) for name, values in expected]


def test_several_headers_are_several_challenges() -> None:
    found = parse_challenges(['Bearer realm="x"', "Basic realm=y"])
    assert challenge_for(found, "basic") == Challenge("basic", {"realm": "y"})
    assert challenge_for(found, "digest") is None


@settings(deadline=None)
@given(st.lists(st.tuples(WORD, st.dictionaries(WORD, VALUE, max_size=4)), max_size=4))
def test_what_is_written_by_the_rules_is_read_again(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in values.items())
        for scheme, values in challenges
    )
    assert parse_challenges([text]) == [Challenge(*one) for one in challenges]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=3))
def test_nothing_in_a_header_is_an_error(headers: list[str]) -> None:
    parse_challenges(headers)


@pytest.mark.parametrize(
    "text", [" " * 100_000, 'a="' * 50_000, "a=" + "\\" * 100_000, ", " * 9000]
)
def test_no_header_takes_long(text: str) -> None:
    began = time.thread_time()
    parse_challenges([f"Bearer {text}", text])
    assert time.thread_time() - began < 1
