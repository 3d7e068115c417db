from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.registry.configuration.nodes import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10), ("2h10m", 7800), ("1.5h", 5400), ("500ms", 0.5), ("0", 0), (1_000_000_000, 1)]
    + [("-5s", -5), ("168h", 604800), (".5s", 0.5), ("1h0m0s", 3600)],
)
def test_durations_are_gos(text: object, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1d", "1 s", "1s 2m", "--1s", "x", None, True, "1.s.s"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(seconds(text), float)
