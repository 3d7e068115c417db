"""Contents on their way to and from Google Cloud Storage, as streams.

The library holds the whole of what it sends in memory, or sends it in many requests, and reads
what it fetches as a whole. One request with a stream for its body is the same operation.
Source: the JSON API's reference, Objects: insert (uploadType=media) and get (alt=media).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import quote

from google.api_core import exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from sampan.registry.drivers.objects.bucket import Body
from sampan.registry.drivers.objects.streams import CONNECTIONS, stream_of

OCTETS = "application/octet-stream"


class Media:
    """The contents of one bucket's objects."""

    def __init__(self, client: Client, bucket: str, seconds: float) -> None:
        """`seconds` is how long nothing may happen, and how long failures are tried again."""
        # A body cannot be sent twice without our help, so nothing is repeated behind our back.
        session: Any = AuthorizedSession
        self._session = session(client._credentials, max_refresh_attempts=0)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        origin = client._connection.API_BASE_URL
        self._objects = f"{origin}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._uploads = f"{origin}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        self._seconds = seconds

    def put(self, key: str, content: BinaryIO, size: int) -> dict[str, Any]:
        """Store a file, which is not empty, and return what is known of the object."""
        url = f"{self._uploads}?uploadType=media&name={quote(key, safe='')}"

        def send() -> dict[str, Any]:
            content.seek(0)
            answer = self._ask("POST", url, data=content)
            found: dict[str, Any] = answer.json()
            return found

        made: dict[str, Any] = self._tried(send)
        if int(made["size"]) != size:
            raise OSError(f"gcs: {made['size']} bytes of {key} arrived, not {size}")
        return made

    def get(self, key: str, offset: int, size: int) -> Body:
        """Begin to read so many bytes from an offset on."""
        url = f"{self._objects}/{quote(key, safe='')}?alt=media"
        wanted = {"Range": f"bytes={offset}-{offset + size - 1}"}
        answer = self._tried(lambda: self._ask("GET", url, headers=wanted, stream=True))
        return stream_of(answer, "gcs", size)

    def _ask(
        self, method: str, url: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Any:
        given = {"Content-Type": OCTETS} if method == "POST" else {}
        answer = self._session.request(
            method, url, headers={**given, **(headers or {})}, timeout=self._seconds, **more
        )
        if not answer.ok:
            with answer:
                failure: Any = exceptions.from_http_response
                raise failure(answer)
        return answer

    def _tried(self, call: Callable[[], Any]) -> Any:
        return DEFAULT_RETRY.with_timeout(self._seconds)(call)()

    def close(self) -> None:
        self._session.close()
