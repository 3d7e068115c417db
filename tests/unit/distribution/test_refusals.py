"""What registries say when they refuse, however they say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.distribution.refusals import Refusal, plain, refusal_of
from sampan.errors import Forbidden, NotFound, Unauthorized, Upstream

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["errors", "code", "message"]), inner)
    ),
    max_leaves=10,
)


def refused(status: int, body: Any, *challenges: str) -> Refusal:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal_of(status, "Reason", challenges, content)


def one(code: Any, message: Any) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message, "detail": {"any": [1]}}]}


@pytest.mark.parametrize(
    ("status", "body", "sentence", "kind"),
    [
        (404, one("MANIFEST_UNKNOWN", "manifest unknown"), "manifest unknown: manifest unknown",
         NotFound),
        (403, one("DENIED", ""), "denied: requested access to the resource is denied", Forbidden),
        (401, one("UNAUTHORIZED", None), "unauthorized: authentication required", Unauthorized),
        (401, {"details": "incorrect username or password"},
         "unauthorized: incorrect username or password", Unauthorized),
        (429, b"slow down", "toomanyrequests: too many requests", Upstream),
        (429, {"message": "slow down"}, "toomanyrequests: slow down", Upstream),
        (403, b"", "denied: requested access to the resource is denied", Forbidden),
        (404, b"<html>no\nsuch\x1b[2Jpage", 'error parsing HTTP 404 response body: "<html>no such'
         ' [2Jpage"', NotFound),
        (400, one("lower case\n", "x"), "unknown: x", Upstream),
        (400, one(7, "x"), "7: x", Upstream),
        (400, {"errors": []}, 'error parsing HTTP 400 response body: "{"errors": []}"', Upstream),
        (500, one("DENIED", "x"), "received unexpected HTTP status: 500 Reason", Upstream),
        (302, b"", "received unexpected HTTP status: 302 Reason", Upstream),
    ],
)  # fmt: skip
def test_refusals_are_told_as_docker_does(
    status: int, body: Any, sentence: str, kind: type[Exception]
) -> None:
    error = refused(status, body)
    assert str(error) == sentence
    assert type(error.error()) is kind


def test_a_challenge_says_more_than_the_body() -> None:
    challenge = 'Bearer realm="x",error="insufficient_scope"'
    error = refused(401, one("UNAUTHORIZED", "authentication required"), challenge)
    assert str(error) == "denied: requested access to the resource is denied"
    described = refused(401, b"", challenge + ',error_description="not yours"')
    assert str(described) == "denied: not yours"


def test_of_many_errors_some_are_told() -> None:
    many = {"errors": [{"code": "DENIED", "message": "x" * 100_000}] * 1000}
    assert len(str(refused(403, many))) < 10_000


@settings(deadline=None)
@given(
    status=st.integers(300, 599),
    body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
    challenge=st.text(),
)
def test_no_refusal_breaks_us_or_the_terminal(status: int, body: bytes, challenge: str) -> None:
    error = refused(status, body, challenge)
    assert str(error.error()).replace("\n", " ").isprintable()


def test_what_strangers_write_is_one_plain_line() -> None:
    assert plain("a\x00\x1b[31m\u202eb\u200b\r\nc") == "a [31m b c"
    assert len(plain("x" * 100_000)) == 1024
