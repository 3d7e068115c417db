"""Conditions as clients of BuildKit write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.caching.conditions import Condition, of, of_switch, passes, read_conditions
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id==a", [Condition("id", "==", "a")]),
        ("id~=a,type!=b", [Condition("id", "~=", "a"), Condition("type", "!=", "b")]),
        ("inuse", [Condition("inuse")]),
        ('"description==a,b"', [Condition("description", "==", "a,b")]),
        ("startedAt>=2020-01-01T00:00:00Z", [Condition("startedAt", ">=", "2020-01-01T00:00:00Z")]),
        ("a=b", [Condition("a", "=", "b")]),
    ],
)
def test_a_text_is_read(text: str, expected: list[Condition]) -> None:
    assert read_conditions([text]) == [expected]


@pytest.mark.parametrize("text", ["==a", "id~=(a+)+$", "a b", '"open', "id~=.*"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        read_conditions([text])


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("x", "", False), ("x", "a", True), ("x==a", "a", True), ("x!=a", "a", False),
        ("x~=b", "abc", True), ("x~=^b", "abc", False), ("x~=^ab", "abc", True),
        ("x~=bc$", "abc", True), ("x~=^abc$", "abc", True), ("x~=^ab$", "abc", False),
    ],
)  # fmt: skip
def test_texts_are_compared(text: str, value: str, expected: bool) -> None:
    assert passes(read_conditions([text]), {"x": of(value)}) is expected


@pytest.mark.parametrize(
    ("text", "is_on", "expected"),
    [
        ("x", True, True), ("x", False, False), ("x==true", True, True), ("x==1", False, False),
        ("x==false", False, True), ("x!=true", False, True), ("x!=true", True, False),
    ],
)  # fmt: skip
def test_switches_are_compared(text: str, is_on: bool, expected: bool) -> None:
    assert passes(read_conditions([text]), {"x": of_switch(is_on)}) is expected


def test_unknown_fields_are_named_and_nothing_is_everything() -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'y'"):
        passes(read_conditions(["y==1"]), {"x": of("a")})
    assert passes(read_conditions(["", ""]), {})


@given(st.text())
def test_no_text_does_harm(text: str) -> None:
    try:
        read_conditions([text])
    except InvalidArgument:
        pass
