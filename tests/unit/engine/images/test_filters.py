"""Filters of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.images.filters import boolean, check_names, glob, matches_labels, until
from sampan.errors import InvalidArgument

NOW = 2_000_000_000 * 10**9


def test_unknown_filters_are_named() -> None:
    check_names({"dangling": ["1"]}, ["dangling"])
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        check_names({"colour": ["red"]}, ["dangling"])


def test_a_truth_is_written_in_many_ways() -> None:
    assert boolean({"dangling": ["1"]}, "dangling", False) is True
    assert boolean({"dangling": ["false"]}, "dangling", True) is False
    assert boolean({}, "dangling", True) is True
    for values in (["maybe"], ["true", "false"]):
        with pytest.raises(InvalidArgument, match="invalid filter 'dangling="):
            boolean({"dangling": values}, "dangling", False)


def test_all_labels_must_hold() -> None:
    labels = {"a": "1", "b": ""}
    assert matches_labels(["a"], labels)
    assert matches_labels(["a=1", "b="], labels)
    assert not matches_labels(["a=2"], labels)
    assert not matches_labels(["c"], labels)
    assert not matches_labels(["a"], None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("10m", 2_000_000_000 - 600),
        ("1h30m", 2_000_000_000 - 5400),
        ("1500000000", 1_500_000_000),
        ("1500000000.5", 1_500_000_000.5),
        ("2017-07-14T02:40:00Z", 1_500_000_000),
        ("2017-07-14T04:40:00+02:00", 1_500_000_000),
    ],
)
def test_a_moment_is_an_age_or_a_time(value: str, seconds: float) -> None:
    assert until(value, NOW) == int(seconds * 10) * 10**8


def test_what_is_no_moment_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid value for 'until' filter"):
        until("tomorrow", NOW)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("alpine", "alpine", "alpine:3"),
        ("alp*", "alpine", "x/alpine"),
        ("*/alp?ne", "x/alpine", "alpine"),
        ("a[b-d]c", "acc", "aec"),
        ("a[^b]c", "acc", "abc"),
        (r"a\*c", "a*c", "abc"),
        ("a.c", "a.c", "abc"),
    ],
)
def test_patterns_are_gos(pattern: str, matching: str, other: str) -> None:
    assert glob(pattern).fullmatch(matching)
    assert not glob(pattern).fullmatch(other)


@pytest.mark.parametrize("pattern", ["[", "[]", "a[", "\\", "[z-a]"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        glob(pattern)


@given(st.text(alphabet="ab*?[]^-\\/", max_size=12))
def test_no_pattern_makes_it_fail_otherwise(pattern: str) -> None:
    try:
        glob(pattern).fullmatch("ab/ab")
    except InvalidArgument:
        pass
