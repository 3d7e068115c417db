"""The one table from errors to status codes, and the body of every refusal.

Source: moby daemon/server/httpstatus/status.go.
"""

from __future__ import annotations

import logging

import msgspec

from sampan import errors
from sampan.http.response import Response
from sampan.spec.docker.errors import ErrorResponse

log = logging.getLogger(__name__)

STATUS: dict[type[errors.SampanError], int] = {
    errors.Internal: 500,
    errors.InvalidArgument: 400,
    errors.CommandNotFound: 400,
    errors.CommandNotExecutable: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.Forbidden: 403,
    errors.Unauthorized: 401,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.Upstream: 500,
    errors.DeadlineExceeded: 500,
    errors.NoSpace: 500,
}


def status_of(error: BaseException) -> int:
    """Return the status code of an error; what is not in the table is a fault of ours."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def refusal(status: int, sentence: str) -> Response:
    """Return the answer to a refused request."""
    return Response(status, msgspec.json.encode(ErrorResponse(message=sentence)) + b"\n")


def sentence_of(error: BaseException) -> str:
    """Return what the user reads; an unexpected error is logged, and only named."""
    if isinstance(error, errors.SampanError):
        return str(error)
    log.error("a request failed", exc_info=error)
    return f"internal error ({type(error).__name__}); the log of the daemon has the details"


def answer_to(error: BaseException) -> Response:
    """Return the answer that tells the client of `error`."""
    return refusal(status_of(error), sentence_of(error))
