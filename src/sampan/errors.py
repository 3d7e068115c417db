"""Every error that a caller may act on, each with the code that names it between processes.

The message is the sentence the user reads: Docker's own wording where Docker has one.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost every command line 3 ms
if TYPE_CHECKING:
    from typing import ClassVar


class SampanError(Exception):
    """Base of all errors that cross a boundary between components or processes."""

    code: ClassVar[str] = "internal"
    by_code: ClassVar[dict[str, type[SampanError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        SampanError.by_code[cls.code] = cls


class Internal(SampanError):
    """A fault of ours; the log of the process that failed has the traceback."""

    code = "internal"


class InvalidArgument(SampanError):
    """The request can never work as written."""

    code = "invalid_argument"


class CommandNotFound(InvalidArgument):
    """The program to run does not exist in the container (exit code 127)."""

    code = "command_not_found"


class CommandNotExecutable(InvalidArgument):
    """The program to run exists but cannot be executed (exit code 126)."""

    code = "command_not_executable"


class NotFound(SampanError):
    """The named object does not exist."""

    code = "not_found"


class Conflict(SampanError):
    """The object is in a state, or the name is in a use, that forbids the operation."""

    code = "conflict"


class NotModified(SampanError):
    """The object is already as the caller wants it (start of a running container)."""

    code = "not_modified"


class Forbidden(SampanError):
    """The operation is never allowed on this object or for this caller."""

    code = "forbidden"


class Unauthorized(SampanError):
    """The caller has not shown who it is."""

    code = "unauthorized"


class Unsupported(SampanError):
    """This host or this build cannot do what is asked; the message says what is missing."""

    code = "unsupported"


class Unavailable(SampanError):
    """A process or service that is needed does not answer; trying again later may help."""

    code = "unavailable"


class Upstream(SampanError):
    """A server that we depend on, a registry say, cannot be reached, fails, or lies."""

    code = "upstream"
    may_pass = False  # set to True where another attempt from the beginning may succeed
    is_limit = False  # set to True where it takes no more requests of ours for now
    retry_after: float | None = None  # seconds after which it asks to be asked again


class DeadlineExceeded(SampanError):
    """The operation did not finish in the time it was given."""

    code = "deadline_exceeded"


class NoSpace(SampanError):
    """The disk, or a quota, is full."""

    code = "no_space"
