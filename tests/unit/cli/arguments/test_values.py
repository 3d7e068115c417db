"""Values of flags: sizes, durations, numbers, CSV."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.arguments import values


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1 << 10),
        ("1.5g", 3 << 29),
        ("64MiB", 64 << 20),
        ("2 TB", 2 << 40),
        ("10b", 10),
        (".5k", 512),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "foo", "-1", "1x", "1kk", "1bb", "1_0", "k", "1 0 m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        values.size(text)


def test_minus_one_is_no_limit_of_swap() -> None:
    assert values.memory_swap(0, "-1") == -1


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("10s", 10 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("-2ms", -2_000_000),
        ("3us4ns", 3004),
    ],
)
def test_a_duration_is_read(text: str, nanoseconds: int) -> None:
    assert values.duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1.2.3s", "--1s", "1 s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        values.duration(text)


def test_cpus_are_exact_to_a_billionth() -> None:
    assert values.cpus(None, "1.5") == 1_500_000_000
    assert values.cpus(None, "0.000000001") == 1
    with pytest.raises(ValueError, match="too precise"):
        values.cpus(None, "0.0000000001")
    with pytest.raises(ValueError, match="failed to parse foo as a rational number"):
        values.cpus(None, "foo")


def test_integers_have_a_range_and_go_s_bases() -> None:
    parse = values.PARSERS["uint16"]
    assert parse(None, "0x10") == 16
    assert values.PARSERS["int"](None, "010") == 8
    with pytest.raises(ValueError, match="value out of range"):
        parse(None, "65536")
    with pytest.raises(ValueError, match="invalid syntax"):
        parse(None, "-1")


def test_filters_collect_values_by_name() -> None:
    found = values.filters(values.filters({}, "Label=a=1"), "label=b")
    assert found == {"label": ["a=1", "b"]}
    with pytest.raises(ValueError, match="expected name=value"):
        values.filters({}, "label")


def test_csv_fields_may_be_quoted() -> None:
    assert values.csv_fields('a,"b,c",d') == ["a", "b,c", "d"]
    assert values.csv_fields('"x ""y"""') == ['x "y"']
    with pytest.raises(ValueError, match="quoted-field"):
        values.csv_fields('"open')
    with pytest.raises(ValueError, match="bare"):
        values.csv_fields('a"b')


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    for parse in (values.size, values.duration, values.csv_fields):
        try:
            parse(text)
        except ValueError:
            pass


@given(st.lists(st.text(alphabet='ab", ', max_size=5), min_size=1, max_size=4))
def test_csv_written_by_the_rules_is_read_back(fields: list[str]) -> None:
    line = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert values.csv_fields(line) == fields
