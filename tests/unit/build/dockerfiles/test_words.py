"""The forms of arguments."""

from __future__ import annotations

import pytest

from sampan.build.dockerfiles.words import json_list, json_or_words, pairs, quoted_words
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b c"]', ["a", "b c"]),
        (' [ "a" ] ', ["a"]),
        ("[]", []),
        ("['a']", None),
        ('["a"', None),
        ('["a"] && x', None),
        ("[ -f x ] && y", None),
        ("a", None),
        ('["\\u00e9\\n"]', ["\u00e9\n"]),
        ("[" * 5000, None),
    ],
)
def test_the_exec_form_is_a_list_of_strings(text: str, expected: list[str] | None) -> None:
    assert json_list(text) == expected


@pytest.mark.parametrize("text", ["[1]", '["a", null]', '[["a"]]'])
def test_lists_of_other_things_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="comprised of strings only"):
        json_list(text)


def test_a_list_may_also_be_words() -> None:
    assert json_or_words("a  'b c'") == ["a", "'b", "c'"]
    assert json_or_words('["a b"]') == ["a b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("a='b c' d", ["a='b c'", "d"]),
        ('a="b \\" c" d', ['a="b \\" c"', "d"]),
        ("a=b\\ c d", ["a=b\\ c", "d"]),
        ("a='b\\' c", ["a='b\\'", "c"]),
        ("a='b c", ["a='b c"]),
        ("", []),
    ],
)
def test_quotes_keep_blanks(text: str, expected: list[str]) -> None:
    assert quoted_words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "old"),
    [
        ("a=b", [("a", "b")], False),
        ("a=b c=d=e", [("a", "b"), ("c", "d=e")], False),
        ("a= c=", [("a", ""), ("c", "")], False),
        ('a="b c" d=e', [("a", '"b c"'), ("d", "e")], False),
        ("a b c = d", [("a", "b c = d")], True),
        ("a   b", [("a", "b")], True),
    ],
)
def test_pairs_have_a_new_and_an_old_form(
    text: str, expected: list[tuple[str, str]], old: bool
) -> None:
    assert pairs("ENV", text) == (expected, old)
