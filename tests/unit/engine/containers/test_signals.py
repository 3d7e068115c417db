"""Names of signals."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.containers.signals import HIGHEST, parse_signal
from sampan.errors import InvalidArgument


@pytest.mark.parametrize("text", ["KILL", "SIGKILL", "kill", "sigkill", "9"])
def test_a_signal_may_be_written_in_any_way(text: str) -> None:
    assert parse_signal(text) == signal.SIGKILL


def test_real_time_signals_count_from_both_ends() -> None:
    assert parse_signal("RTMIN") == 34
    assert parse_signal("SIGRTMIN+3") == 37
    assert parse_signal("RTMAX-1") == 63


@pytest.mark.parametrize("text", ["", "0", "FOO", "RTMIN+40", "RTMIN-1", "9x", "-9"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal: "):
        parse_signal(text)


def test_a_number_that_the_kernel_does_not_have_is_refused() -> None:
    assert parse_signal("64") == HIGHEST
    with pytest.raises(InvalidArgument, match="the linux daemon does not support signal 65"):
        parse_signal("65")


@given(st.text())
def test_no_text_raises_anything_but_invalid_argument(text: str) -> None:
    try:
        assert parse_signal(text) > 0
    except InvalidArgument:
        pass
