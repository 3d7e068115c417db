"""The client's own JSON agrees with the standard library's."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.client import documents

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_encoded_is_decoded(value: Any) -> None:
    encoded = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert documents.encode(value) == encoded.encode("utf-8", "surrogateescape")
    assert documents.decode(documents.encode(value)) == value


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_refused_or_read_as_the_standard_library_does(data: bytes) -> None:
    try:
        expected = json.loads(data.decode("utf-8", "surrogatepass"))
    except ValueError:
        with pytest.raises(ValueError):
            documents.decode(data)
    else:
        assert repr(documents.decode(data)) == repr(expected)


@pytest.mark.parametrize("data", [b"", b" ", b"{", b"1 2", b'{"a" 1}', b"nul", b"\xff"])
def test_what_is_no_document_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        documents.decode(data)


def test_an_interpreter_without_the_c_scanner_reads_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "_json", None)
    assert documents.decode(b' {"a": [1, 2.5, null, true, "\\u00e9"]} ') == {
        "a": [1, 2.5, None, True, "é"]
    }


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="set is no JSON value"):
        documents.encode({"a": {1}})
