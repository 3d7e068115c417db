"""Who a client is to registries: the headers X-Registry-Auth and X-Registry-Config.

Both hold JSON in the URL's alphabet of base64. What cannot be read counts as nothing, as in
Docker: old clients send headers that are no credentials, and a registry will say what it misses.

Source: moby api/types/registry/authconfig.go.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from typing import Final, TypeVar

from sampan.api.codec import decode
from sampan.distribution.credentials import Credentials
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.spec.docker.registries import AuthConfig
from sampan.spec.reference import Reference

log = logging.getLogger(__name__)
T = TypeVar("T")
_HUB: Final = "https://index.docker.io/v1/"
_URL_TO_STANDARD = str.maketrans("-_", "+/")


def credentials_of(config: AuthConfig) -> Credentials:
    """Return the credentials in a document of the API."""
    return Credentials(config.username, config.password, config.identitytoken, config.registrytoken)


def credentials(request: Request) -> Credentials | None:
    """Return what X-Registry-Auth says; None if there is nothing in it."""
    config = _document(request, "X-Registry-Auth", AuthConfig)
    found = credentials_of(config) if config else None
    return None if found is None or found.is_anonymous else found


def credentials_by_registry(request: Request) -> dict[str, Credentials]:
    """Return what X-Registry-Config says, by the address of the registry."""
    configs = _document(request, "X-Registry-Config", dict[str, AuthConfig])
    return {server: credentials_of(config) for server, config in (configs or {}).items()}


def credentials_for(reference: Reference, clients: Mapping[str, Credentials]) -> Credentials | None:
    """Return what X-Registry-Config has for the registry of an image."""
    domain = reference.domain
    names = [_HUB, "index.docker.io", "docker.io"] if domain == "docker.io" else [domain]
    for name in names:
        for key, credentials in clients.items():
            plain = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
            if key == name or plain == name:
                return None if credentials.is_anonymous else credentials
    return None


def _document(request: Request, header: str, kind: type[T]) -> T | None:
    text = request.headers.get(header).strip().translate(_URL_TO_STANDARD)
    if not text:
        return None
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        return decode(content, kind)
    except (ValueError, binascii.Error, InvalidArgument) as error:
        log.info("the header %s is not used: %s", header, error)
        return None
