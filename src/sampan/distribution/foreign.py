"""Layers that may not be distributed: they lie on the web, where their descriptors say."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sampan.distribution.downloads import Download, WrongContent
from sampan.distribution.refusals import Refusal
from sampan.distribution.transport import Call, FailedRequest, Header, Transport
from sampan.errors import InvalidArgument, Upstream
from sampan.http.exchange import Answer
from sampan.http.urls import Url

log = logging.getLogger(__name__)
_ADDRESSES = 8
_ATTEMPTS = 2
_FOREIGN = (".foreign.", ".nondistributable.")  # in media types of Docker and of OCI


async def fetch_foreign(download: Download, transport: Transport) -> bool:
    """Fetch a blob from the addresses in its descriptor; False if none of them has it.

    Nothing that tells who the user is goes there. Raises WrongContent once bytes have been
    written that are not the blob's.
    """
    descriptor = download.descriptor
    if not any(mark in descriptor.media_type for mark in _FOREIGN):
        return False  # an image must not choose what the daemon fetches, but where it has to
    for text in (descriptor.urls or [])[:_ADDRESSES]:
        try:
            await _fetch(download, transport, Url.parse(text))
        except (Refusal, FailedRequest, InvalidArgument, Upstream) as error:
            log.info("%s is not at %s: %s", descriptor.digest, text[:200], error)
        except WrongContent as error:
            if not error.is_clean:
                raise
        else:
            return True
    return False


async def _fetch(download: Download, transport: Transport, url: Url) -> None:
    async def ask(headers: Sequence[Header]) -> Answer:
        return await transport.send(url, Call("GET", tuple(headers), attempts=1))

    await download.run(ask, transport, _ATTEMPTS)
