"""Bodies of the endpoints of Docker's Engine API that speak of registries.

Source: moby api/types/registry.
"""

from __future__ import annotations

import msgspec

from sampan.spec.image import Descriptor
from sampan.spec.platform import PlatformBody


class AuthConfig(msgspec.Struct, kw_only=True):
    """Who a client is to a registry: the body of POST /auth, and X-Registry-Auth."""

    username: str = ""
    password: str = ""
    auth: str = ""  # not read by Docker, either
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class AuthResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /auth."""

    identity_token: str = ""
    status: str


class SearchItem(msgspec.Struct, kw_only=True):
    """One item of GET /images/search."""

    star_count: int
    is_official: bool
    name: str
    is_automated: bool
    description: str


class DistributionInspect(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to GET /distribution/{name}/json."""

    descriptor: Descriptor
    platforms: list[PlatformBody] | None = None


class PushResult(msgspec.Struct, rename="pascal", kw_only=True):
    """What a push tells programs of each tag."""

    tag: str
    digest: str
    size: int
