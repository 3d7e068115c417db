"""The body of every refused request. Source: moby api/types/common/error_response.go."""

from __future__ import annotations

import msgspec


class ErrorResponse(msgspec.Struct, kw_only=True):
    """One sentence for the user."""

    message: str
