"""Range, Content-Range, Link and Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.distribution.headers import content_range, next_page, retry_after, uploaded

SIZES = st.integers(0, 1 << 50)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0-99", 100), ("bytes=0-99", 100), ("0-0", 1), ("5-99", None), ("", None), ("x", None),
     ("0-", None), ("0--1", None), ("0-" + "9" * 40, None), ("٠-٩", None)],
)  # fmt: skip
def test_an_upload_tells_how_much_it_has(text: str, size: int | None) -> None:
    assert uploaded(text) == size


@settings(deadline=None)
@given(first=SIZES, length=st.integers(1, 1 << 40), rest=SIZES)
def test_a_content_range_is_read_again(first: int, length: int, rest: int) -> None:
    last = first + length - 1
    whole = last + 1 + rest
    assert content_range(f"bytes {first}-{last}/{whole}") == (first, last, whole)
    assert content_range(f"bytes {first}-{last}/*") == (first, last, None)


@pytest.mark.parametrize(
    "text", ["", "bytes */5", "bytes 5-4/9", "bytes 0-9/9", "bytes 0-9", "0-9/9"]
)
def test_what_is_no_content_range_is_none(text: str) -> None:
    assert content_range(text) is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('</v2/x/tags/list?last=a&n=5>; rel="next"', "/v2/x/tags/list?last=a&n=5"),
        ("<a>; rel=next", "a"),
        ('<a>; rel="prev", <b>; rel="next"', "b"),
        ('<a>; title="x"; REL="next"', "a"),
        ("<a>", None),
        ("", None),
        ('<>; rel="next"', None),
    ],
)
def test_the_next_page_is_found(text: str, where: str | None) -> None:
    assert next_page([text]) == where


@settings(deadline=None)
@given(st.text())
def test_no_header_is_an_error(text: str) -> None:
    uploaded(text)
    content_range(text)
    next_page([text, f"<{text}>; rel=next"])
    retry_after(text)


def test_a_wait_is_told_in_seconds_or_as_a_date() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    assert retry_after("7") == 7
    assert retry_after(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90
    assert retry_after(format_datetime(now - timedelta(seconds=90), usegmt=True), now) == 0
    assert retry_after("soon") is None
    assert retry_after("-5") is None
