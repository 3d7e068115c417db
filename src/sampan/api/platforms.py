"""The `platform` query of image endpoints: a JSON document of the OCI specification."""

from __future__ import annotations

from sampan.api.codec import decode
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.spec.platform import Platform, PlatformBody


def platforms_of(request: Request, name: str) -> list[Platform]:
    """Return every platform of the query `name`; raises InvalidArgument.

    Source: moby httputils.DecodePlatform.
    """
    return [_platform(text) for text in request.query.all(name)]


def platform_of(request: Request, name: str) -> Platform | None:
    """Return the one platform of the query `name`; raises InvalidArgument for several."""
    if not request.query.get(name):
        return None
    platforms = platforms_of(request, name)
    if len(platforms) > 1:
        raise InvalidArgument(
            "multiple platform parameters are not supported in this API version; "
            "use API version 1.52 or later"
        )
    return platforms[0]


def _platform(text: str) -> Platform:
    try:
        body = decode(text.encode(), PlatformBody)
    except InvalidArgument as error:
        raise InvalidArgument(f"failed to parse platform: {error}") from error
    if not body.os and not body.architecture and (body.variant or body.os_version):
        raise InvalidArgument(
            "optional platform fields provided, but OS and Architecture are missing"
        )
    if not body.os or not body.architecture:
        raise InvalidArgument("both OS and Architecture must be provided")
    return Platform.of(body.os, body.architecture, body.variant)
