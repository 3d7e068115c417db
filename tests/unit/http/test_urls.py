"""Addresses of the web."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.http.urls import Url, redacted, redacted_text


@pytest.mark.parametrize(
    ("text", "shown", "target"),
    [
        ("https://a.example", "https://a.example/", "/"),
        ("HTTPS://A.example:443/x?y=z#part", "https://a.example/x?y=z", "/x?y=z"),
        ("http://a.example:5000/v2/", "http://a.example:5000/v2/", "/v2/"),
        ("http://[::1]:5000/a b", "http://[::1]:5000/a%20b", "/a%20b"),
        ("http://a.example/%7Eü", "http://a.example/%7E%C3%BC", "/%7E%C3%BC"),
    ],
)
def test_addresses_are_read(text: str, shown: str, target: str) -> None:
    url = Url.parse(text)
    assert (str(url), url.target) == (shown, target)
    assert Url.parse(shown) == url


@pytest.mark.parametrize(
    "text",
    ["", "a.example", "ftp://a", "http://", "http:///x", "http://a:0/", "http://a:99999/",
     "http://a b/", "http://a\x00b/", "http://-a/", "http://[::1/", "file:///etc/passwd",
     "http://a/" + "x" * 20000],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Url.parse(text)


def test_a_location_is_read_where_it_was_found() -> None:
    url = Url.parse("https://a.example/v2/x/blobs/uploads/?mount=y")
    assert str(url.join("/other?z")) == "https://a.example/other?z"
    assert str(url.join("http://b.example/")) == "http://b.example/"
    assert str(url.join("more")) == "https://a.example/v2/x/blobs/uploads/more"
    assert str(url.with_query("a=b")) == str(url) + "&a=b"
    with pytest.raises(InvalidArgument):
        url.join("gopher://b")


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_address_that_can_be_sent_or_is_refused(text: str) -> None:
    for whole in (text, f"http://a.example/{text}", f"http://{text}/"):
        try:
            url = Url.parse(whole)
        except InvalidArgument:
            continue
        assert re.fullmatch(r"[\x21-\x7e]+", url.target)
        assert re.fullmatch(r"[\x21-\x7e]+", url.authority)
        assert Url.parse(str(url)).target == url.target


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/x.git#main:sub", "https://host/x.git#main:sub"),
        ("https://user:secret@host:8080/x?y#z", "https://xxxxx:xxxxx@host:8080/x?y#z"),
        ("https://token@host/x.git", "https://xxxxx@host/x.git"),
        ("git@host:x.git", "git@host:x.git"),
        ("https://user:se[cret@host/", "https://xxxxx:xxxxx@host/"),
        ("//[", "//["),
        ("", ""),
    ],
)
def test_others_see_no_passwords(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_a_long_text_is_looked_through_once() -> None:
    text = "a" * (1 << 20)  # at each letter an address might begin
    assert redacted_text(text) == text


def test_text_tells_no_passwords() -> None:
    assert redacted_text("at http://a:b,c'd@e@host/@x") == "at http://xxxxx:xxxxx@host/@x"
    text = 'ADD ["https://user:secret@host/x.git#main", "/src"]\nADD  git@host:x https://t@h /'
    assert redacted_text(text) == (
        'ADD ["https://xxxxx:xxxxx@host/x.git#main", "/src"]\nADD  git@host:x https://xxxxx@h /'
    )
    with pytest.raises(InvalidArgument) as caught:
        Url.parse("ftp://user:secret@host/x")
    assert "secret" not in str(caught.value)
