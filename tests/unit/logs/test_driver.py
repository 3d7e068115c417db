"""The options of log drivers, and Docker's words about bad ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.logs.driver import LogOptions, validate_options


def test_every_driver_has_a_cap_by_default() -> None:
    assert validate_options("json-file", {}) == LogOptions(20_000_000, 5, False)
    assert validate_options("local", {}) == LogOptions(20_000_000, 5, True)


def test_sizes_are_decimal() -> None:
    assert validate_options("json-file", {"max-size": "10m"}).max_size == 10_000_000
    assert validate_options("json-file", {"max-size": "1.5k"}).max_size == 1500
    assert validate_options("json-file", {"max-size": "3GB"}).max_size == 3 * 10**9


def test_json_file_keeps_one_file_when_only_the_size_is_given() -> None:
    assert validate_options("json-file", {"max-size": "1m"}).max_file == 1
    assert validate_options("json-file", {"max-size": "1m", "max-file": "3"}).max_file == 3


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("syslog", {}, "logger: no log driver named 'syslog' is registered"),
        ("json-file", {"x": "1"}, "unknown log opt 'x' for json-file log driver"),
        ("local", {"x": "1"}, "unknown log opt 'x' for log driver local"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-size": "big"}, "invalid size: 'big'"),
        ("json-file", {"max-size": "-1"}, "invalid size: '-1'"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        (
            "json-file",
            {"max-size": "1m", "compress": "true"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("json-file", {"compress": "yes"}, 'strconv.ParseBool: parsing "yes": invalid syntax'),
        ("local", {"max-size": "x"}, "invalid value for max-size: x: invalid size: 'x'"),
        ("local", {"max-file": "-1"}, "max-file must not be negative"),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        (
            "local",
            {"compress": "maybe"},
            "invalid boolean value for compress: "
            'strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        ("json-file", {"mode": "fast"}, "logger: logging mode not supported: fast"),
        (
            "json-file",
            {"max-buffer-size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
    ],
)
def test_a_bad_option_is_refused_in_dockers_words(
    driver: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validate_options(driver, options)
    assert str(caught.value) == message


def test_none_takes_any_option() -> None:
    assert validate_options("none", {"whatever": "x"})


@given(
    st.sampled_from(["json-file", "local"]),
    st.dictionaries(st.sampled_from(["max-size", "max-file", "compress"]), st.text(max_size=8)),
)
def test_no_option_raises_anything_else(driver: str, options: dict[str, str]) -> None:
    try:
        parsed = validate_options(driver, options)
    except InvalidArgument:
        return
    assert parsed.max_size > 0
    assert parsed.max_file > 0
