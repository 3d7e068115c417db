"""The command line, read as pflag reads dockerd's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.daemon.configuration.flags import UsageError, parse_bytes, parse_flags, usage
from sampan.daemon.configuration.options import BY_FLAG, ONLY_IN_FILE, OPTIONS, REFUSED


def test_values_come_behind_an_equals_sign_or_in_the_next_word() -> None:
    assert parse_flags(["--data-root=/a", "--exec-root", "/b"]) == {
        "data-root": "/a",
        "exec-root": "/b",
    }


def test_booleans_take_a_value_only_behind_an_equals_sign() -> None:
    assert parse_flags(["--debug", "--icc=false", "--init=1"]) == {
        "debug": True,
        "icc": False,
        "init": True,
    }


def test_short_flags_may_be_joined_with_their_value() -> None:
    assert parse_flags(["-D", "-Hunix:///a", "-H", "tcp://b:1", "-l=warn"]) == {
        "debug": True,
        "host": ["unix:///a", "tcp://b:1"],
        "log-level": "warn",
    }
    assert parse_flags(["-Dl", "info"]) == {"debug": True, "log-level": "info"}


def test_lists_and_maps_grow() -> None:
    given_flags = ["--log-opt", "max-size=1m", "--log-opt=max-file=3", "--dns", "1.1.1.1"]
    assert parse_flags(given_flags) == {
        "log-opt": {"max-size": "1m", "max-file": "3"},
        "dns": ["1.1.1.1"],
    }


def test_the_old_name_of_the_data_root_is_known() -> None:
    assert parse_flags(["--graph", "/a"]) == parse_flags(["-g", "/a"]) == {"data-root": "/a"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--frob"], "unknown flag: --frob"),
        (["-Dz"], "unknown shorthand flag: 'z' in -Dz"),
        (["--dns"], "flag needs an argument: --dns"),
        (["-H"], "flag needs an argument: -H, --host"),
        (["extra"], '"sampand" accepts no arguments.'),
        (["--debug", "false"], '"sampand" accepts no arguments.'),
        (["--", "x"], '"sampand" accepts no arguments.'),
        (["--mtu", "x"], 'invalid argument "x" for "--mtu" flag: '),
        (["--icc=maybe"], 'invalid argument "maybe" for "--icc" flag: '),
        (["--default-shm-size", "lots"], "invalid size: 'lots'"),
        (["--rootless"], "--rootless is not supported: "),
    ],
)
def test_what_is_wrong_is_said_in_pflags_words(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_flags(words)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "size"), [("64m", 64 << 20), ("64MB", 64 << 20), ("1GiB", 1 << 30), ("512", 512)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_no_option_is_both_offered_and_refused() -> None:
    assert not set(BY_FLAG) & set(REFUSED)
    assert len({option.short for option in OPTIONS if option.short}) == len(
        [option for option in OPTIONS if option.short]
    )


def test_help_names_every_option() -> None:
    text = usage()
    for option in OPTIONS:
        assert (f"--{option.flag} " in text) == (option.flag not in ONLY_IN_FILE)


@given(st.lists(st.text(max_size=8), max_size=5))
def test_no_command_line_raises_anything_but_a_usage_error(words: list[str]) -> None:
    try:
        parse_flags(words)
    except UsageError:
        pass
