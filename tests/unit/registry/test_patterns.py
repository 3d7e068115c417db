from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.registry import patterns
from sampan.registry.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("team/app", "team/app", True),
        ("team/app", "team/apps", False),
        ("team/*", "team/app", True),
        ("team/*", "team/app/x", False),
        ("team/*", "team", False),
        ("team/**", "team/app/x", True),
        ("**/app", "a/b/app", True),
        ("**", "anything/at.all", True),
        ("v?.*", "v1.2", True),
        ("v?.*", "v10.2", False),
        ("*", "", True),
        ("a.b", "axb", False),
    ],
)
def test_a_pattern_is_for_the_whole_name(pattern: str, name: str, matches: bool) -> None:
    assert Pattern(pattern).matches(name) == matches


@given(st.text("ab/*?", min_size=1, max_size=8), st.text("ab/", max_size=8))
def test_a_pattern_means_what_the_regular_expression_does(text: str, name: str) -> None:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(parts.get(t, re.escape(t)) for t in re.findall(r"\*\*|.", text))
    assert Pattern(text).matches(name) == bool(re.fullmatch(expression, name))


def test_no_name_makes_a_pattern_slow() -> None:
    pattern = Pattern("*a" * 60 + "b")
    begun = time.thread_time()
    assert not pattern.matches("a" * 255)
    assert time.thread_time() - begun < 5  # a backtracking matcher takes longer than the universe


@pytest.mark.parametrize("text", ["", "a b", "a" * 256, "[a]", "a\n"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Pattern(text)


def test_a_pattern_that_is_made_again_is_not_compiled_again() -> None:
    patterns._expression.cache_clear()
    for name in ("team/a", "team/b"):
        assert Pattern("team/**").matches(name)
        assert Pattern("team/c").matches(name) is False
    assert patterns._expression.cache_info().misses == 1
