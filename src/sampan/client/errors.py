"""The Docker API's status codes as our errors, with the sentence the docker CLI prints."""

from __future__ import annotations

from sampan.client import documents
from sampan.errors import (
    Conflict,
    Forbidden,
    Internal,
    InvalidArgument,
    NotFound,
    NotModified,
    SampanError,
    Unauthorized,
    Unavailable,
    Unsupported,
)

_ERRORS: dict[int, type[SampanError]] = {
    304: NotModified,
    400: InvalidArgument,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    501: Unsupported,
    503: Unavailable,
}


def error_of(status: int, body: bytes) -> SampanError:
    """Make the error that an answer with this status and body stands for."""
    message = _message(body) or f"request returned status {status}"
    return _ERRORS.get(status, Internal)(f"Error response from daemon: {message}")


def unreachable(host: str, reason: OSError) -> SampanError:
    """Make the error for a daemon that cannot be connected to."""
    if isinstance(reason, PermissionError):
        return Unavailable(
            f"permission denied while trying to connect to the Docker daemon socket at {host}"
        )
    if isinstance(reason, (FileNotFoundError, ConnectionRefusedError)):
        return Unavailable(
            f"Cannot connect to the Docker daemon at {host}. Is the docker daemon running?"
        )
    return Unavailable(f"error during connect to {host}: {reason.strerror or reason}")


def _message(body: bytes) -> str:
    try:
        document = documents.decode(body)
    except ValueError:
        return body.decode(errors="replace").strip()
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        return str(document["message"]).strip()
    return ""
