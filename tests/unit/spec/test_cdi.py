from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.cdi import parse_name, parse_spec

WHOLE = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/net-class",
    "devices": [{"name": "dev:1.0", "containerEdits": {"env": ["A=1"]}}],
}


def test_a_name_has_a_kind_and_a_device() -> None:
    assert parse_name("vendor.com/class=dev:0") == ("vendor.com/class", "dev:0")


@pytest.mark.parametrize("name", ["", "dev", "a/b", "a=b", "a/b=", "/b=c", "a/b=c/d", "1/b=c"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="unqualified device"):
        parse_name(name)


def test_a_specification_is_read() -> None:
    (device,) = parse_spec(WHOLE).devices
    assert (device.name, device.container_edits.env) == ("dev:1.0", ["A=1"])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "vendor.com"},
        {"devices": [{"name": "a/b"}]},
        {"devices": [{}]},
        {"surprise": 1},
        {"containerEdits": {"env": "A=1"}},
    ],
)
def test_a_broken_specification_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="invalid CDI specification"):
        parse_spec({**WHOLE, **change})


@given(st.recursive(st.none() | st.text() | st.integers(), lambda each: st.lists(each)))
def test_no_document_raises_anything_else(document: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_spec(document)
