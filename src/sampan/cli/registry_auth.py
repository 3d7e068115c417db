"""The user's login at a registry, as the X-Registry-Auth header wants it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"


def authorization(settings: Mapping[str, Any], domain: str) -> str:
    """Return the header for a registry's domain; empty without a login in config.json."""
    key = HUB_KEY if domain == HUB else domain
    logins = settings.get("auths")
    login = logins.get(key) if isinstance(logins, dict) else None
    if not isinstance(login, dict):
        return ""
    import base64
    import json

    name, _, password = _decoded(login.get("auth", "")).partition(":")
    document = {
        "username": login.get("username", name),
        "password": login.get("password", password),
        "identitytoken": login.get("identitytoken", ""),
        "serveraddress": key,
    }
    text = json.dumps({name: value for name, value in document.items() if value})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    import base64

    try:
        return base64.b64decode(text).decode().rstrip("\0")
    except ValueError:
        return ""
