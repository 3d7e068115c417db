"""The `filters` query: a JSON map, in the two spellings that Docker understands.

Source: moby daemon/internal/filters/parse.go.
"""

from __future__ import annotations

import msgspec

from sampan.errors import InvalidArgument
from sampan.http.request import Request

Filters = dict[str, list[str]]
_new = msgspec.json.Decoder(dict[str, dict[str, bool]])
_old = msgspec.json.Decoder(dict[str, list[str]])


def parse_filters(request: Request) -> Filters:
    """Return every filter with its values; raises InvalidArgument."""
    text = request.query.get("filters")
    if not text:
        return {}
    try:
        return {
            name: [value for value, wanted in values.items() if wanted]
            for name, values in _new.decode(text).items()
        }
    except (ValueError, RecursionError):
        pass
    try:
        return _old.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("invalid filter") from error
