"""Filters in both spellings."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from sampan.api.filters import parse_filters
from sampan.errors import InvalidArgument
from sampan.http.request import Exchange, Headers, Request


def request(filters: str) -> Request:
    def nothing(*_: object) -> None:
        raise AssertionError("the body is not asked for")

    exchange = Exchange(nothing, nothing, nothing)  # type: ignore[arg-type]
    return Request("GET", f"/containers/json?filters={quote(filters)}", Headers([]), exchange)


@pytest.mark.parametrize(
    "text", ['{"label": ["a", "b=c"]}', '{"label": {"a": true, "b=c": true, "gone": false}}']
)
def test_both_spellings_mean_the_same(text: str) -> None:
    assert parse_filters(request(text)) == {"label": ["a", "b=c"]}


def test_no_filters_are_an_empty_map() -> None:
    assert parse_filters(request("")) == {}
    assert parse_filters(request("{}")) == {}


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"a": 1}', '{"a": [1]}', "[" * 9999, "null"])
def test_anything_else_is_an_invalid_filter(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter"):
        parse_filters(request(text))
