"""Image documents."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.digest import digest_of
from sampan.spec.image import nanoseconds, parse_config, timestamp


def test_a_configuration_of_go_may_have_null_for_every_list() -> None:
    config = parse_config(
        b'{"config":{"Env":null,"Cmd":null,"Labels":null,"Volumes":null,"ExposedPorts":null,'
        b'"Entrypoint":null,"OnBuild":null},"rootfs":{"type":"layers","diff_ids":null},'
        b'"history":null,"created":null}'
    )
    assert config.diff_ids == []
    assert config.run.env is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "invalid image JSON"),
        (b"[]", "invalid image JSON"),
        (b"{}", "invalid image JSON, no RootFS key"),
        (b'{"rootfs":{"diff_ids":["../../x"]}}', "invalid checksum digest format"),
        (b'{"rootfs":{},"created":"yesterday"}', "invalid timestamp"),
        (b'{"rootfs":' + b"[" * 5000, "invalid image JSON"),
    ],
)
def test_a_broken_configuration_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        parse_config(content)


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(msgspec.json.encode))
def test_no_bytes_make_the_parser_fail_otherwise(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse_config(content)


def test_times_keep_their_nanoseconds() -> None:
    assert timestamp(nanoseconds("2024-01-02T03:04:05.123456789+02:00")) == (
        "2024-01-02T01:04:05.123456789Z"
    )
    assert timestamp(nanoseconds("0001-01-01T00:00:00Z")) == "0001-01-01T00:00:00Z"
    assert timestamp(0) == "1970-01-01T00:00:00Z"
    assert timestamp(1_500_000_000) == "1970-01-01T00:00:01.5Z"


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_a_time_survives_formatting(nanos: int) -> None:
    assert nanoseconds(timestamp(nanos)) == nanos


def test_a_configuration_with_layers_lists_them_lowest_first() -> None:
    layers = [digest_of(b"1"), digest_of(b"2")]
    content = msgspec.json.encode({"rootfs": {"type": "layers", "diff_ids": layers}})
    assert parse_config(content).diff_ids == layers
