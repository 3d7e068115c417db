"""Containers of Azure Blob Storage. What grows is a block blob, whose blocks are committed.

Source of the options: distribution registry/storage/driver/azure/parser.go, 2.8.3 and 3.1.1.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import (
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    generate_blob_sas,
)

from sampan.errors import InvalidArgument
from sampan.registry.configuration.nodes import seconds
from sampan.registry.drivers.driver import Closing, Move, Writer
from sampan.registry.drivers.objects.azure_blocks import BlocksWriter
from sampan.registry.drivers.objects.bucket import URL_SECONDS, Body, Entry, reason
from sampan.registry.drivers.objects.options import MiB, Options
from sampan.registry.drivers.objects.outbox import Sending
from sampan.registry.drivers.objects.streams import Streams

KINDS = ("shared_key", "client_secret", "default_credentials")
SECONDS = 30
TRIES = 2  # after the first
BACKOFF = 1
SCOPE = "https://storage.azure.com/.default"  # of a directory's token
ONCE = 64 * MiB  # bytes that one request stores


def bucket(options: Options) -> AzureBucket:
    """Open the container that a configuration describes; raise InvalidArgument."""
    account = options.text("accountname", needed=True)
    realm = options.text("realm", "core.windows.net")
    url = options.text("serviceurl") or f"https://{account}.blob.{realm}"
    key, credential = _credentials(options)
    verify = not options.flag("skipverify", False)
    # They tell of every request what is no news to anybody.
    logging.getLogger("azure").setLevel(logging.WARNING)
    service = BlobServiceClient(
        url,
        credential={"account_name": account, "account_key": key} if key else credential,
        connection_verify=verify,
        connection_timeout=SECONDS,
        read_timeout=SECONDS,
        retry_total=TRIES,
        initial_backoff=BACKOFF,  # seconds; as it is, it would be 15, while a client waits
        increment_base=BACKOFF,
        random_jitter_range=BACKOFF,
        max_single_put_size=ONCE,
    )
    patience = Patience(
        options.number("max_retries", 5, 0), _duration(options, "retry_delay", "100ms")
    )
    container = options.text("container", needed=True)
    streams = Streams("azure", SECONDS, TRIES, verify)
    return AzureBucket(service, container, account, key or credential, patience, streams)


def root(options: Options) -> str:
    """Return what stands before every key."""
    return options.text("rootdirectory")


def _duration(options: Options, name: str, default: str) -> float:
    try:
        return seconds(options.text(name, default))
    except ValueError as error:
        raise InvalidArgument(f"{options.place}.{name}: {error}") from error


def _credentials(options: Options) -> tuple[str, Any]:
    """Return the account's key, or what Azure's directory takes us for."""
    given = Options(options.section("credentials"), f"{options.place}.credentials")
    kind = given.word("type", KINDS, KINDS[0])
    if kind == "shared_key":
        return options.text("accountkey", needed=True), None
    from azure.identity import ClientSecretCredential, DefaultAzureCredential

    if kind == "default_credentials":
        return "", DefaultAzureCredential()
    names = ("tenantid", "clientid", "secret")
    return "", ClientSecretCredential(*(given.text(name, needed=True) for name in names))


class Patience:
    """How long a copy is waited for: the delay doubles from turn to turn."""

    def __init__(self, turns: int, delay: float) -> None:
        self.turns, self.delay = turns, delay


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what went wrong as an OSError."""
    try:
        yield
    except ResourceNotFoundError as error:
        if getattr(error, "error_code", "") == "ContainerNotFound":
            raise OSError("azure: the container does not exist") from error
        raise FileNotFoundError(2, "No such object") from error
    except AzureError as error:
        raise OSError(f"azure: {reason(error)}") from error


class AzureBucket:
    """One container."""

    chunk = 4 * MiB
    least = 0
    together = 1

    def __init__(
        self,
        service: BlobServiceClient,
        container: str,
        account: str,
        login: Any,
        patience: Patience,
        streams: Streams,
    ) -> None:
        """`login` is the account's key, or a credential of Azure's directory."""
        self._service = service
        self._name = container
        self._account = account
        self._account_key = login if isinstance(login, str) else ""
        self._credential = login
        self._streams = streams
        self._patience = patience
        self._delegated: Any = None
        self._lock = threading.Lock()
        self._container: ContainerClient | None = None
        self.name = f"azure://{account}/{container}"

    @contextlib.contextmanager
    def calling(self) -> Iterator[ContainerClient]:
        """Lend the container, which is made where an account's key lets us."""
        with told():
            if self._container is None:
                found = self._service.get_container_client(self._name)
                if self._account_key:
                    with contextlib.suppress(ResourceExistsError):
                        found.create_container()
                self._container = found
            yield self._container

    def head(self, key: str) -> Entry:
        with self.calling() as container:
            found = container.get_blob_client(key).get_blob_properties()
        return Entry(key, found.size, found.last_modified.timestamp(), found.etag)

    def get(self, key: str, offset: int, size: int) -> Body:
        with self.calling() as container:
            headers = {"x-ms-version": self._service.api_version}
            if self._account_key:
                url = self._signed(container, key)
            else:
                url = container.get_blob_client(key).url
                token = self._credential.get_token(SCOPE).token
                headers["Authorization"] = f"Bearer {token}"
        return self._streams.get(url, headers, offset, size)

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        with self.calling() as container:
            blob = container.get_blob_client(key)
            done = blob.upload_blob(content, length=size, overwrite=True)
        return Entry(key, size, etag=done["etag"])

    def list(self, prefix: str) -> Iterator[Entry]:
        with self.calling() as container:
            for found in container.list_blobs(name_starts_with=prefix):
                etag = '"' + found.etag.strip('"') + '"'  # lists have it bare, all others quoted
                yield Entry(found.name, found.size, found.last_modified.timestamp(), etag)

    def names(self, prefix: str) -> Iterator[str]:
        with self.calling() as container:
            for found in container.walk_blobs(name_starts_with=prefix, delimiter="/"):
                name = found.name[len(prefix) :].rstrip("/")
                if name:
                    yield name

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with contextlib.suppress(FileNotFoundError), self.calling() as container:
                container.delete_blob(key)

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> Move:
        return AzureCopy(self, parts, target)

    def copy(self, part: Entry, target: str) -> None:
        """Copy one blob, which nobody may have changed."""
        with self.calling() as container:
            made = container.get_blob_client(target)
            begun = made.start_copy_from_url(
                container.get_blob_client(part.key).url,
                source_etag=part.etag,
                source_match_condition=MatchConditions.IfNotModified,
            )
            state = str(begun["copy_status"])
            delay = self._patience.delay
            for _ in range(self._patience.turns):
                if state != "pending":
                    break
                time.sleep(delay)
                delay *= 2
                state = str(made.get_blob_properties().copy.status)
            if state != "success":
                raise OSError(f"azure: a copy is {state}")

    def append(self, key: str, offset: int, sending: Sending) -> Writer | None:
        with self.calling() as container:
            return BlocksWriter(container.get_blob_client(key), self.chunk, offset, sending, told)

    def url(self, key: str, method: str) -> str:
        with self.calling() as container:
            return self._signed(container, key)

    def _signed(self, container: ContainerClient, key: str) -> str:
        """Return an address that a blob is read at for a while."""
        now = datetime.now(UTC)
        blob = container.get_blob_client(key)
        https = urlsplit(blob.url).scheme == "https"
        signing: dict[str, Any] = {"account_key": self._account_key}
        if not self._account_key:
            signing = {"user_delegation_key": self._delegation(now)}
        token = generate_blob_sas(
            *(self._account, self._name, key),
            permission=BlobSasPermissions(read=True),
            expiry=now + timedelta(seconds=URL_SECONDS),
            protocol="https" if https else "https,http",
            **signing,
        )
        return f"{blob.url}?{token}"

    def _delegation(self, now: datetime) -> Any:
        """Return a key that Azure's directory lends us, good for an hour at least."""
        with self._lock:
            known, until = self._delegated or (None, now)
            if until < now + timedelta(hours=1):
                until = now + timedelta(hours=6)
                known = self._service.get_user_delegation_key(now, until)
                self._delegated = known, until
        return known

    def sweep(self, before: float) -> None:
        """Azure itself removes blocks that are not committed for a week."""

    def check(self) -> None:
        with self.calling() as container:
            container.get_container_properties()

    def close(self) -> None:
        self._streams.close()
        self._service.close()


class AzureCopy(Closing):
    """A copy of one blob.

    It may take long, so it is made at its place before the lock is taken: it has the content that
    its name says, whoever wins, and as yet no row says that it is there.
    """

    def __init__(self, bucket: AzureBucket, parts: Sequence[Entry], target: str) -> None:
        self._bucket = bucket
        self._part = parts[0]
        self._target = target
        self._copied = False

    def prepare(self) -> None:
        self._bucket.copy(self._part, self._target)
        self._copied = True

    def publish(self) -> None:
        if not (self._copied and self._is_there()):
            self._bucket.copy(self._part, self._target)

    def _is_there(self) -> bool:
        """Tell whether a copy is still there; a collection may have removed it."""
        try:
            return self._bucket.head(self._target).size == self._part.size
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """What was copied and is not needed is found by a collection."""
