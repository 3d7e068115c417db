"""Patterns, compared with regular expressions of the same meaning."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from sampan.build.files.globs import GATE, Glob, Token, any_letter, no_slash

KINDS = {
    "a": Token("a"),
    "b": Token("b"),
    "?": Token(no_slash),
    "*": Token(no_slash, repeated=True),
}
REGEX = {"a": "a", "b": "b", "?": "[^/]", "*": "[^/]*"}


@given(st.text(alphabet="ab?*", max_size=8), st.text(alphabet="ab/", max_size=12))
def test_a_pattern_matches_what_a_regular_expression_would(pattern: str, text: str) -> None:
    glob = Glob([KINDS[letter] for letter in pattern])
    expression = re.compile("".join(REGEX[letter] for letter in pattern))
    lengths = [end for end in range(len(text) + 1) if expression.fullmatch(text[:end])]
    assert list(glob.ends(text)) == lengths
    assert glob.matches(text) == (expression.fullmatch(text) is not None)


def test_what_is_optional_may_be_left_out() -> None:
    glob = Glob([GATE, Token(any_letter, repeated=True), Token("/"), Token("a")], [(0, 3)])
    assert [text for text in ("a", "/a", "x/y/a", "xa", "") if glob.matches(text)] == [
        "a",
        "/a",
        "x/y/a",
    ]
