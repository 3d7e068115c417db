"""What registries say when they refuse, read with care, and said in Docker's words.

Source: distribution registry/api/errcode and registry/client/errors.go; moby
distribution/errors.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec

from sampan.distribution.challenges import challenge_for, parse_challenges
from sampan.distribution.headers import retry_after
from sampan.errors import Forbidden, NotFound, SampanError, Unauthorized, Upstream
from sampan.http.exchange import Answer
from sampan.http.faults import Fault

BODY_BYTES = 64 << 10
_MESSAGE = 1024  # characters of one message that are shown
_ERRORS = 8
_NOT_SHOWN = re.compile(r"\0+")
_CODE = re.compile(r"[A-Z0-9_]{1,64}")
_MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "TOOMANYREQUESTS": "too many requests",
    "UNSUPPORTED": "The operation is unsupported.",
}
_MISSING = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN"})


class _Error(msgspec.Struct):
    code: str | int = ""
    message: str | None = ""


class _Errors(msgspec.Struct):
    errors: list[_Error] | None = None


class _Details(msgspec.Struct):
    details: str | None = None
    message: str | None = None


class Refusal(Exception):
    """An answer of a registry that is not the one hoped for: `str` is Docker's sentence.

    `request` is what Docker puts before the sentence when it pulls: `Get "https://…": `.
    """

    retry_after: float | None = None  # seconds that it asks to wait

    def __init__(self, status: int, code: str, sentence: str, request: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.request = request

    @property
    def is_missing(self) -> bool:
        """What was asked for is not there."""
        return self.code in _MISSING or (not self.code and self.status == HTTPStatus.NOT_FOUND)

    @property
    def may_pass(self) -> bool:
        """Another attempt may succeed."""
        return self.status in (429, 500, 502, 503, 504)

    @property
    def is_limit(self) -> bool:
        """There were too many requests."""
        return self.code == "TOOMANYREQUESTS" or self.status == HTTPStatus.TOO_MANY_REQUESTS

    def error(self) -> SampanError:
        """Return the error that tells a user of this."""
        if self.code == "UNAUTHORIZED" or (not self.code and self.status == 401):
            return Unauthorized(str(self))
        if self.code == "DENIED" or (not self.code and self.status == 403):
            return Forbidden(str(self))
        if self.is_missing:
            return NotFound(str(self))
        return self.failure(str(self))

    def failure(self, sentence: str) -> Upstream:
        """Return the error for this refusal of what should not be refused."""
        error = Upstream(sentence)
        error.may_pass, error.is_limit = self.may_pass, self.is_limit
        error.retry_after = self.retry_after
        return error


def plain(text: str) -> str:
    """Return what a stranger has written without controls, and not longer than one can read."""
    shown = (char if char.isprintable() else "\0" for char in text[: _MESSAGE * 4])
    return _NOT_SHOWN.sub(" ", "".join(shown)).strip()[:_MESSAGE]


async def refusal(answer: Answer) -> Refusal:
    """Read the rest of an answer and return what it refuses."""
    try:
        body = await answer.read(BODY_BYTES)
    except Fault:
        body = b""
    challenges = answer.headers.all("www-authenticate")
    refused = refusal_of(answer.status, answer.reason, challenges, body)
    refused.retry_after = retry_after(answer.headers.get("retry-after"))
    return refused


def refusal_of(status: int, reason: str, challenges: Sequence[str], body: bytes) -> Refusal:
    """Return what an answer with these parts refuses."""

    def make(code: str, sentence: str) -> Refusal:
        return Refusal(status, code, sentence)

    if status >= 500 or status < 400:
        return make("", f"received unexpected HTTP status: {plain(f'{status} {reason}')}")
    challenge = challenge_for(parse_challenges(challenges), "bearer")
    if challenge and challenge.parameters.get("error") == "insufficient_scope":
        return make("DENIED", _sentence("DENIED", challenge.parameters.get("error_description")))
    return _from_body(status, body, make)


def _from_body(status: int, body: bytes, make: Callable[[str, str], Refusal]) -> Refusal:
    found = []
    try:
        found = msgspec.json.decode(body, type=_Errors).errors or []
    except (ValueError, RecursionError):
        pass
    sentences, first = [], ""
    for error in found[:_ERRORS]:
        code = str(error.code)
        code = code if _CODE.fullmatch(code) else "UNKNOWN"
        first = first or code
        sentences.append(_sentence(code, error.message))
    if len(sentences) == 1:
        return make(first, sentences[0])
    if sentences:
        return make(first, "errors:\n" + "".join(f"{one}\n" for one in sentences))
    if status == HTTPStatus.UNAUTHORIZED:
        return make("UNAUTHORIZED", _sentence("UNAUTHORIZED", _details(body)))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return make("TOOMANYREQUESTS", _sentence("TOOMANYREQUESTS", _details(body)))
    if status == HTTPStatus.FORBIDDEN and ((told := _details(body)) or not body):
        return make("DENIED", _sentence("DENIED", told))
    shown = plain(body.decode("utf-8", "replace"))
    return make("", f'error parsing HTTP {status} response body: "{shown}"')


def _sentence(code: str, message: str | None) -> str:
    """Return `code: message` as Go's errcode prints it."""
    words = code.lower().replace("_", " ")
    return f"{words}: {plain(message or '') or _MESSAGES.get(code, 'unknown error')}"


def _details(body: bytes) -> str:
    """Return what older registries and token servers write in place of a list of errors."""
    try:
        told = msgspec.json.decode(body, type=_Details)
    except (ValueError, RecursionError):
        return ""
    return told.details or told.message or ""
