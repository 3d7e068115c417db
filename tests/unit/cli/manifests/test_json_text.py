"""JSON that is laid out anew keeps its tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.manifests.json_text import indented, safe_for_html

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 0, 1, 7, "\t"]))
def test_however_it_was_laid_out_it_comes_out_the_same(value: Any, layout: Any) -> None:
    assert indented(json.dumps(value, indent=layout)) == json.dumps(value, indent="\t")


def test_numbers_and_escapes_stay_as_they_were_written() -> None:
    text = '{"a":1.50e+3,"b":"\\u003c\\"[","c":[ ],"d":{ },"a":0}'
    assert indented(text) == (
        '{\n\t"a": 1.50e+3,\n\t"b": "\\u003c\\"[",\n\t"c": [],\n\t"d": {},\n\t"a": 0\n}'
    )


def test_controls_in_strings_are_escaped() -> None:
    assert indented('"a\u009b2J\u007f"') == '"a\\u009b2J\\u007f"'


@pytest.mark.parametrize("character", "&<>\u2028\u2029")
def test_what_html_would_read_is_escaped(character: str) -> None:
    assert json.loads(safe_for_html(json.dumps(character, ensure_ascii=False))) == character
    assert character not in safe_for_html(character)
