"""Buckets of Google Cloud Storage. Parts are composed inside it, at most 32 at once.

Source of the options: distribution registry/storage/driver/gcs/gcs.go, 2.8.3 and 3.1.1.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, BinaryIO

import google.auth.exceptions
import requests
from google.api_core.exceptions import GoogleAPIError, NotFound
from google.auth.credentials import Credentials, Signing
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2.service_account import Credentials as ServiceAccount

from sampan.errors import InvalidArgument
from sampan.registry.drivers.driver import Closing, Move, Writer
from sampan.registry.drivers.objects.bucket import (
    URL_SECONDS,
    Body,
    Entry,
    batches,
    reason,
)
from sampan.registry.drivers.objects.gcs_media import Media
from sampan.registry.drivers.objects.options import KiB, MiB, Options
from sampan.registry.drivers.objects.outbox import Sending

COMPOSED = 32  # objects that one request composes
SECONDS = 30.0
LEAST_CONCURRENCY = 25
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_CALL: dict[str, Any] = {"timeout": SECONDS, "retry": DEFAULT_RETRY.with_timeout(SECONDS)}


def bucket(options: Options) -> GcsBucket:
    """Open the bucket that a configuration describes; raise InvalidArgument."""
    chunk = options.number("chunksize", 16 * MiB, 256 * KiB)
    if chunk % (256 * KiB):
        raise InvalidArgument(f"{options.place}.chunksize: must be a multiple of {256 * KiB}")
    concurrency = max(options.number("maxconcurrency", 50), LEAST_CONCURRENCY)
    name = options.text("bucket", needed=True)
    try:
        # A project is needed to make buckets only; credentials may know none.
        client = Client(project="-", credentials=_credentials(options))
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        raise InvalidArgument(f"{options.place}: {error}") from error
    return GcsBucket(client, name, chunk, concurrency)


def root(options: Options) -> str:
    """Return what stands before every key."""
    return options.text("rootdirectory")


def _credentials(options: Options) -> Credentials | None:
    """Return what a key says; None for what the machine itself is allowed."""
    account: Any = ServiceAccount
    found: Credentials | None = None
    if keyfile := options.text("keyfile"):
        found = account.from_service_account_file(keyfile, scopes=SCOPES)
    elif given := options.section("credentials"):
        found = account.from_service_account_info(dict(given), scopes=SCOPES)
    return found


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what went wrong as an OSError."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(2, "No such object") from error
    except (GoogleAPIError, google.auth.exceptions.GoogleAuthError) as error:
        raise OSError(f"gcs: {reason(error)}") from error
    except requests.RequestException as error:  # an OSError without the words
        raise OSError(f"gcs: {reason(error)}") from error


class GcsBucket:
    """One bucket."""

    least = MiB  # any length will do, but few parts are joined sooner
    together = 1

    def __init__(self, client: Client, bucket: str, chunk: int, concurrency: int) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._slots = threading.BoundedSemaphore(concurrency)
        self.name = f"gcs://{bucket}"
        self.chunk = chunk
        self._media = Media(client, bucket, SECONDS)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[Any]:
        with self._slots, told():
            yield self._bucket

    def head(self, key: str) -> Entry:
        with self._calling() as bucket:
            found = bucket.get_blob(key, **_CALL)
        if found is None:
            raise FileNotFoundError(2, "No such object", key)
        return _entry(found)

    def get(self, key: str, offset: int, size: int) -> Body:
        with self._calling():
            return self._media.get(key, offset, size)

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        with self._calling() as bucket:
            if size:
                generation = self._media.put(key, content, size)["generation"]
            else:  # `requests` takes a file without content for a body of unknown length
                made = bucket.blob(key)
                made.upload_from_string(b"", "application/octet-stream", **_CALL)
                generation = made.generation
        return Entry(key, size, etag=str(generation))

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._calling() as bucket:
            yield from map(_entry, bucket.list_blobs(prefix=prefix, **_CALL))

    def names(self, prefix: str) -> Iterator[str]:
        with self._calling() as bucket:
            found = bucket.list_blobs(prefix=prefix, delimiter="/", **_CALL)
            yield from [blob.name[len(prefix) :] for blob in found if blob.name != prefix]
            yield from [name[len(prefix) : -1] for name in found.prefixes]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with contextlib.suppress(FileNotFoundError), self._calling() as bucket:
                bucket.blob(key).delete(**_CALL)

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> Move:
        return GcsJoin(self, parts, target)

    def compose(self, parts: Sequence[Entry], target: str) -> Entry:
        """Make one object of up to COMPOSED ones, which nobody may have changed."""
        with self._calling() as bucket:
            made = bucket.blob(target)
            made.content_type = "application/octet-stream"
            sources = [bucket.blob(part.key) for part in parts]
            generations = [int(part.etag) for part in parts]
            made.compose(sources, if_source_generation_match=generations, **_CALL)
        return _entry(made)

    def copy(self, part: Entry, target: str) -> None:
        """Copy one object, which nobody may have changed."""
        with self._calling() as bucket:
            source, made = bucket.blob(part.key), bucket.blob(target)
            generation = int(part.etag)
            token, _, _ = made.rewrite(source, if_source_generation_match=generation, **_CALL)
            while token:
                token, _, _ = made.rewrite(
                    source, token=token, if_source_generation_match=generation, **_CALL
                )

    def append(self, key: str, offset: int, sending: Sending) -> Writer | None:
        return None

    def url(self, key: str, method: str) -> str:
        credentials = self._client._credentials
        signing: dict[str, Any] = {}
        if not isinstance(credentials, Signing):
            account = getattr(credentials, "service_account_email", None)
            if not account:
                return ""
            # The machine's own account has no key here: Google signs for whoever has its token.
            signing = {"service_account_email": account, "access_token": self._token()}
        with self._calling() as bucket:
            address: str = bucket.blob(key).generate_signed_url(
                *(timedelta(seconds=URL_SECONDS),), method=method, version="v4", **signing
            )
        return address

    def _token(self) -> str:
        from google.auth.transport.requests import Request

        credentials = self._client._credentials
        if not credentials.valid:
            with told():
                credentials.refresh(Request())
        return str(credentials.token)

    def sweep(self, before: float) -> None:
        """What is composed on the way lies beside the parts, and goes with them."""

    def check(self) -> None:
        with self._calling() as bucket:
            for _ in bucket.list_blobs(max_results=1, **_CALL):
                break

    def close(self) -> None:
        self._media.close()
        self._client.close()


def _entry(blob: Any) -> Entry:
    modified = blob.updated.timestamp() if blob.updated else 0.0
    return Entry(blob.name, int(blob.size), modified, str(blob.generation))


class GcsJoin(Closing):
    """A copy of one object, or of the parts of one."""

    def __init__(self, bucket: GcsBucket, parts: Sequence[Entry], target: str) -> None:
        self._bucket = bucket
        self._parts = list(parts)
        self._target = target
        self._between: list[str] = []

    def prepare(self) -> None:
        by_key = {part.key: part for part in self._parts}
        while len(self._parts) > COMPOSED:
            joined = []
            for group in batches([part.key for part in self._parts], COMPOSED):
                # Beside the parts, so that whatever removes these removes it too.
                key = f"{group[0]}.{len(group)}"
                self._between.append(key)
                joined.append(self._bucket.compose([by_key[name] for name in group], key))
            self._parts = joined
            by_key = {part.key: part for part in joined}

    def publish(self) -> None:
        self.prepare()
        if len(self._parts) == 1:
            self._bucket.copy(self._parts[0], self._target)
        else:
            self._bucket.compose(self._parts, self._target)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._bucket.delete(self._between)
        self._between = []
