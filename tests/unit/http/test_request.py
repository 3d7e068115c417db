"""Queries and escapes, read as Docker reads them."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.http.request import Headers, Query, unescape


@pytest.mark.parametrize("text", ["", "0", "no", "false", "none", "False", "NO", " 0 "])
def test_five_words_are_false(text: str) -> None:
    assert Query(f"all={quote_plus(text)}").boolean("all") is False


@pytest.mark.parametrize("text", ["1", "true", "yes", "on", "2", "anything"])
def test_every_other_word_is_true(text: str) -> None:
    assert Query(f"all={text}").boolean("all") is True


def test_the_default_counts_only_when_the_name_is_missing() -> None:
    assert Query("").boolean("stream", True) is True
    assert Query("stream=").boolean("stream", True) is False


def test_names_may_repeat_and_the_first_value_counts() -> None:
    query = Query("names=a&names=b%20c&names=d+e")
    assert query.get("names") == "a"
    assert query.all("names") == ["a", "b c", "d e"]
    assert query.all("none") == []


@pytest.mark.parametrize("text", ["x", "1.5", "1_0", "0x10", "９", "1" * 30, "9223372036854775808"])
def test_a_number_that_is_none_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"strconv\.Atoi: parsing"):
        Query(f"limit={quote_plus(text)}").integer("limit")


def test_numbers_may_have_a_sign() -> None:
    assert Query("limit=-1").integer("limit") == -1
    assert Query("limit=%2B7").integer("limit") == 7
    assert Query("limit=").integer("limit") is None


@pytest.mark.parametrize("text", ["%", "%1", "%zz", "a%2"])
def test_a_broken_escape_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid URL escape"):
        unescape(text)


def test_headers_are_found_without_case() -> None:
    headers = Headers([(b"content-type", b"text/plain"), (b"accept", b"a"), (b"accept", b"b")])
    assert headers.get("Content-Type") == "text/plain"
    assert headers.all("ACCEPT") == ["a", "b"]
    assert "Accept" in headers
    assert "Host" not in headers


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_what_was_quoted_is_read_back(values: dict[str, str]) -> None:
    values = {
        key.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for key, value in values.items()
    }
    query = Query("&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in values.items()))
    for key, value in values.items():
        assert query.get(key) == value


@given(st.text())
def test_no_query_raises_anything_but_invalid_argument(text: str) -> None:
    try:
        query = Query(text)
        query.boolean("a")
        query.integer("a")
    except InvalidArgument:
        pass
