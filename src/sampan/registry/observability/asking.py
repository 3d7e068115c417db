"""Requests to addresses of the configuration: those who hear of events, and of whom health depends.

As with Go's client, a name and a password may stand in the address, and go with the request.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping, Sequence

from sampan.http.urls import Url


def status_of(
    method: str,
    url: Url,
    headers: Mapping[str, Sequence[str]],
    timeout: float,
    body: bytes | None = None,
) -> int:
    """Send a request and return the status of the answer. Blocks.

    Raises OSError, http.client.HTTPException, and ValueError for what cannot be sent.
    """
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            url.host, url.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(url.host, url.port, timeout=timeout)
    try:
        connection.putrequest(method, url.target)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, values in headers.items():
            for value in values:
                connection.putheader(name, value)
        if url.user_info and "authorization" not in map(str.lower, headers):
            connection.putheader("Authorization", url.login)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()
