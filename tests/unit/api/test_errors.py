"""The table of errors."""

from __future__ import annotations

import json

import pytest

from sampan.api.errors import STATUS, answer_to
from sampan.errors import CommandNotFound, Conflict, NotFound, SampanError


def every_error() -> list[type[SampanError]]:
    return [kind for kind in SampanError.by_code.values() if kind.__module__ == "sampan.errors"]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_is_in_the_table(kind: type[SampanError]) -> None:
    assert kind in STATUS


def test_the_body_is_one_message() -> None:
    answer = answer_to(NotFound("No such container: web"))
    assert answer.status == 404
    assert json.loads(answer.body) == {"message": "No such container: web"}
    assert answer.body.endswith(b"\n")


def test_a_kind_of_invalid_argument_is_a_bad_request() -> None:
    assert answer_to(CommandNotFound("x")).status == 400
    assert answer_to(Conflict("x")).status == 409


def test_an_unexpected_error_shows_its_kind_but_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = answer_to(ZeroDivisionError("secret path /var/lib"))
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in answer.body.decode()
    assert "a request failed" in caplog.text
