"""Contents as streams, by plain requests, where a storage's library reads them in large pieces."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from sampan.registry.drivers.objects.bucket import Body, reason

CONNECTIONS = 64  # that are kept
PASSING = (429, 500, 502, 503, 504)  # statuses of failures that may pass


class Streams:
    """Fetches parts of objects. `kind` is what failures begin with."""

    def __init__(self, kind: str, seconds: float, tries: int, verify: bool = True) -> None:
        """`seconds` is how long nothing may come, `tries` how often is tried again."""
        self._kind = kind
        self._seconds = seconds
        self._session = requests.Session()
        self._session.verify = verify
        again = Retry(
            tries,
            status_forcelist=PASSING,
            backoff_factor=0.2,
            raise_on_status=False,
            respect_retry_after_header=False,  # a client is waiting
        )
        for scheme in ("https://", "http://"):
            adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=again)
            self._session.mount(scheme, adapter)

    def get(self, url: str, headers: Mapping[str, str], offset: int, size: int) -> Body:
        """Begin to read so many bytes from an offset on.

        Raises FileNotFoundError; PermissionError for 401; OSError, with EBADMSG for what is
        damaged as the storage itself says.
        """
        wanted = {**headers, "Range": f"bytes={offset}-{offset + size - 1}"}
        try:
            answer = self._session.get(url, headers=wanted, stream=True, timeout=self._seconds)
        except requests.RequestException as error:
            raise OSError(f"{self._kind}: {reason(error)}") from error
        if answer.ok:
            return stream_of(answer, self._kind, size)
        answer.close()
        if answer.status_code == 404:
            raise FileNotFoundError(2, "No such object")
        told = f"{self._kind}: {answer.status_code} {answer.reason}"
        if answer.status_code == 401:
            raise PermissionError(errno.EACCES, told)
        if answer.status_code == 409:  # of Swift, for a large object whose segments have changed
            raise OSError(errno.EBADMSG, f"{told}: it is not what it was")
        raise OSError(told)

    def close(self) -> None:
        self._session.close()


def stream_of(answer: requests.Response, kind: str, size: int) -> Body:
    """Return the body of an answer, which must have so many bytes."""
    length = answer.headers.get("Content-Length", str(size))
    if length != str(size):
        answer.close()
        raise OSError(f"{kind}: {length} bytes come, not {size}: it has another length than it had")
    return _Stream(answer, kind)


class _Stream:
    """An object on its way."""

    def __init__(self, answer: requests.Response, kind: str) -> None:
        self._answer = answer
        self._kind = kind

    def read(self, count: int) -> bytes:
        raw: Any = self._answer.raw
        try:
            piece: bytes = raw.read(count)
        except urllib3.exceptions.HTTPError as error:  # IncompleteRead, ReadTimeoutError and such
            raise OSError(f"{self._kind}: {type(error).__name__}") from error
        return piece

    def close(self) -> None:
        self._answer.close()
