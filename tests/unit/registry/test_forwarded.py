from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.registry.forwarded import forwarded


@pytest.mark.parametrize(
    ("text", "scheme", "host"),
    [
        ("proto=https;host=a.example", "https", "a.example"),
        ("For=192.0.2.43; Proto=https,For=unknown;proto=http", "https", ""),
        ('for="192.0.2.43:443"; host="a.example:99", for="10.1.2.3:80"', "", "a.example:99"),
        ('host="a\\"b"', "", 'a"b'),
        ("  HOST=a.example  ", "", "a.example"),
        ("for=192.0.2.43", "", ""),
        ("host=a.example;;proto=https", "", ""),
        ('host="a.example', "", ""),
        ("=;", "", ""),
    ],
)
def test_the_first_proxy_says_what_it_was_asked(text: str, scheme: str, host: str) -> None:
    # Where there is this header, the older ones do not count.
    older = {"x-forwarded-proto": "gopher", "x-forwarded-host": "b.example"}
    assert forwarded({"forwarded": text, **older}) == (scheme, host)


def test_without_it_the_older_headers_count() -> None:
    headers = {"x-forwarded-proto": "https, http", "x-forwarded-host": "a.example , b.example"}
    assert forwarded(headers) == ("https", "a.example")
    assert forwarded({}) == ("", "")


@given(st.text(max_size=60))
def test_whatever_it_says_is_read(text: str) -> None:
    forwarded({"forwarded": text})


def test_a_long_header_takes_no_long_time() -> None:
    assert forwarded({"forwarded": 'a="' + "\\" * 20_000}) == ("", "")
    assert forwarded({"forwarded": "a=b;" * 10_000}) == ("", "")
