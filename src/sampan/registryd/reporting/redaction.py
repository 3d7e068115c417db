"""What leaves this registry for a service of others: without credentials, tokens and secrets."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope

from sampan.http.urls import redacted_text

HIDDEN = "[hidden]"
# All others may hold what only the client and we should know.
HEADERS = (
    *("accept", "content-length", "content-range", "content-type", "host", "range"),
    *("user-agent", "via", "x-forwarded-proto"),
)
QUERIES = ("artifactType", "digest", "digest-algorithm", "from", "last", "mount", "n", "ns", "tag")

_IN_ADDRESS = re.compile(r"""(?<=[\w/.:-])\?[^\s"'<>?=]+=[^\s"'<>]*""")
_LOGIN = re.compile(r"\b(Bearer|Basic|Negotiate|Digest)\s+[A-Za-z0-9+/._~=-]{4,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+")
_NAMED = re.compile(
    r"""((?:pass(?:word|wd)?|pwd|secret|token|authorization|cookie|signature|credentials?"""
    r"""|(?:access|api|account|license)[_-]?key(?:id|secret)?)["']?\s*[=:]\s*)"""
    r"""("[^"]*"|'[^']*'|[^\s"',;&)}\]]+)""",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return a text for strangers: what looks like a secret is hidden, and all queries."""
    text = _IN_ADDRESS.sub(f"?{HIDDEN}", redacted_text(text))
    text = _LOGIN.sub(rf"\1 {HIDDEN}", text)
    text = _JWT.sub(HIDDEN, text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)


def redact_all(value: Any) -> Any:
    """Return a JSON value with all its texts redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redact_all(item) for item in value]
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    return value


def request(scope: Scope) -> dict[str, Any]:
    """Return what is told of a request."""
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name.decode("latin-1") in HEADERS
    }
    query = [
        (name, value if name in QUERIES else HIDDEN)
        for name, value in parse_qsl(scope["query_string"].decode("latin-1"), True)
    ]
    told = f"{scope['scheme']}://{headers.get('host', '')}{scope['path']}"
    client = scope.get("client")
    return {
        "clientIp": client[0] if client else "",
        "httpMethod": scope["method"],
        "httpVersion": scope["http_version"],
        "url": told,
        "query": urlencode(query, safe="/:[]"),
        "headers": headers,
    }
