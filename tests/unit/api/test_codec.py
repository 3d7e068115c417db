"""JSON as Go reads and writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.codec import decode, json_response
from sampan.errors import InvalidArgument
from sampan.spec.docker.containers import CreateRequest
from sampan.spec.docker.networks import NetworkCreateRequest


def test_an_answer_ends_with_a_newline_and_keeps_angle_brackets() -> None:
    assert json_response(200, {"Cmd": "<a & b>"}).body == b'{"Cmd":"<a & b>"}\n'


def test_keys_are_found_in_any_case() -> None:
    body = b'{"image": "busybox", "CMD": ["true"], "hostconfig": {"networkMode": "host"}}'
    request = decode(body, CreateRequest)
    assert request.image == "busybox"
    assert request.cmd == ["true"]
    assert request.host_config is not None
    assert request.host_config.network_mode == "host"


def test_null_stands_for_not_given_everywhere() -> None:
    body = b'{"Hostname": null, "Env": null, "Tty": null, "HostConfig": {"Memory": null}}'
    request = decode(body, CreateRequest)
    assert request.hostname == ""
    assert request.tty is False
    assert request.env is None


def test_null_inside_maps_and_lists_is_the_zero_value() -> None:
    request = decode(b'{"Labels": {"a": null}, "Env": ["A=b", null]}', CreateRequest)
    assert request.labels == {"a": ""}
    assert request.env == ["A=b", ""]


def test_unknown_fields_are_ignored() -> None:
    assert decode(b'{"Name": "n", "Future": {"x": 1}}', NetworkCreateRequest).name == "n"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"{} {}",
        b'{"Hostname": 5}',
        b'{"Tty": "yes"}',
        b'{"HostConfig": []}',
        b'{"HostConfig": {"Memory": "1g"}}',
        b'{"HostConfig": {"Memory": 1.5}}',
        b'{"HostConfig": {"Memory": 99999999999999999999999999}}',
        b'{"HostConfig": {"Memory": 9223372036854775808}}',
        b'{"HostConfig": {"PortBindings": {"80/tcp": "x"}}}',
        b'{"Labels": {"a": 1}}',
        b"[" * 100_000,
        b'{"Hostname": "\xff"}',
    ],
)
def test_a_wrong_type_in_any_field_is_refused_in_one_sentence(body: bytes) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decode(body, CreateRequest)
    assert "\n" not in str(refused.value)
    assert "JSON" in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Hostname", "env", "Cmd", "HostConfig", "Memory", "Binds", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_document_raises_anything_but_invalid_argument(document: object) -> None:
    body = json_response(200, document).body if not _is_huge(document) else b"{}"
    try:
        decode(body, CreateRequest)
    except InvalidArgument:
        pass


def _is_huge(document: object) -> bool:
    if isinstance(document, dict):
        return any(_is_huge(item) for item in document.values())
    if isinstance(document, list):
        return any(_is_huge(item) for item in document)
    return isinstance(document, int) and abs(document) >= 1 << 63


@given(st.binary())
def test_no_bytes_raise_anything_but_invalid_argument(body: bytes) -> None:
    try:
        decode(body, CreateRequest)
    except InvalidArgument:
        pass
