"""Regular expressions of administrators for what clients write: RE2, which Go's are as well.

A match takes time in proportion to the text. Python's own `re` may need the age of the universe for
an address of sixty letters and an expression such as `^https?://([^/]+\\.)*example\\.com/`.
"""

from __future__ import annotations

from typing import Any, Protocol

from sampan.errors import InvalidArgument


class Expression(Protocol):
    """An expression that is ready to be looked for."""

    def search(self, text: str, /) -> object | None:
        """Return what was found; None if nothing was."""


def expression(pattern: str) -> Expression:
    """Return an expression; raise InvalidArgument if RE2 does not take it."""
    import re2  # where there is none, nothing of it is loaded

    options = re2.Options()
    options.log_errors = False
    try:
        found: Any = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise InvalidArgument(f"is no regular expression: {reason}") from None
    ready: Expression = found
    return ready
