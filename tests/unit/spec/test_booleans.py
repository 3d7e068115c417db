"""Truths as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.spec.booleans import FALSE, TRUE, parse_bool


@pytest.mark.parametrize(("texts", "truth"), [(TRUE, True), (FALSE, False)])
def test_six_spellings_mean_each(texts: frozenset[str], truth: bool) -> None:
    assert len(texts) == 6
    assert {parse_bool(text) for text in texts} == {truth}


@given(st.text().filter(lambda text: text not in TRUE | FALSE))
def test_all_else_is_refused_in_gos_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^strconv.ParseBool: parsing \""):
        parse_bool(text)
