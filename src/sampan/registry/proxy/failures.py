"""What clients of a cache are told when its upstream fails, where nothing is here to be given.

| the upstream                              | the client gets                                |
|-------------------------------------------|------------------------------------------------|
| does not have it (404), or says "denied"  | 404, as the upstream's own clients             |
| wants a login that we do not have (401)   | 403 DENIED: the client's own login is no help  |
| takes no more requests (429)              | 429 TOOMANYREQUESTS, with a Retry-After       |
| fails, is silent, or lies                 | 503 UNAVAILABLE                                |
"""

from __future__ import annotations

import math
import re

from sampan.errors import Forbidden, NotFound, SampanError, Unauthorized, Upstream
from sampan.registry.errors import RegistryError
from sampan.registry.proxy.upstreams import Place

_QUERY = re.compile(r"""\?[^"'\s]*""")
USUAL_RETRY = 10.0  # seconds, where the upstream does not say: so long it is left alone
LONGEST_RETRY = 24 * 3600.0  # seconds that clients are told to wait at most


def failure(error: Exception, place: Place, missing: RegistryError) -> Exception:
    """Return the answer to a client for what went wrong; `missing`: to who wants what is not."""
    where = place.upstream.url.authority
    if isinstance(error, NotFound):
        return missing
    # What stands in a query is between us and the upstream: names of users, signatures.
    told = _QUERY.sub("?…", str(error))
    if isinstance(error, Forbidden | Unauthorized):
        return RegistryError("DENIED", message=f"{where} refuses: {told}")
    if isinstance(error, Upstream) and error.is_limit:
        return RegistryError(
            "TOOMANYREQUESTS", message=f"{where} takes no more: {told}", headers=_retry(error)
        )
    if isinstance(error, TimeoutError):
        return RegistryError("UNAVAILABLE", message=f"{where} does not answer")
    if isinstance(error, SampanError):
        return RegistryError("UNAVAILABLE", message=f"{where} cannot be asked: {told}")
    return error


def _retry(error: Upstream) -> dict[str, str]:
    wait = USUAL_RETRY if error.retry_after is None else min(error.retry_after, LONGEST_RETRY)
    return {"Retry-After": str(math.ceil(wait))}
