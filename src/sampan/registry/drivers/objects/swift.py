"""Containers of OpenStack Swift. Parts become the segments of a static large object.

Files are below `PREFIX/files`, segments below `PREFIX/segments`, as docker-registry has it, whose
dynamic large objects are read and removed too.
Source of the options: distribution registry/storage/driver/swift/swift.go, 2.8.3.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

import requests
from swiftclient import Connection
from swiftclient.exceptions import ClientException
from swiftclient.utils import generate_temp_url

from sampan.registry.drivers.driver import Move, Writer
from sampan.registry.drivers.objects import swift_login
from sampan.registry.drivers.objects.bucket import URL_SECONDS, Body, Entry, reason
from sampan.registry.drivers.objects.options import MiB, Options
from sampan.registry.drivers.objects.outbox import Sending
from sampan.registry.drivers.objects.streams import Streams
from sampan.registry.drivers.objects.swift_join import SwiftJoin, sweep

TRIES = 2  # after the first
BACKOFF = 1  # seconds before the second try; then twice as long
SECONDS = 30
PAGE = 10_000
LARGE = re.compile("/data$|/quarantine/")  # keys of objects that may be large
TEMP_URL_KEY = "x-container-meta-temp-url-key"


def bucket(options: Options) -> SwiftBucket:
    """Open the container that a configuration describes; raise InvalidArgument."""
    login = swift_login.Login.read(options)
    prefix = options.text("prefix").strip("/")
    signing = Signing(
        options.text("secretkey"),
        options.text("accesskey"),
        options.flag("tempurlcontainerkey", False),
    )
    container = options.text("container", needed=True)
    chunk = options.number("chunksize", 20 * MiB, MiB)
    return SwiftBucket(login, container, chunk, f"{prefix}/segments".lstrip("/"), signing)


def root(options: Options) -> str:
    """Return what stands before every key."""
    return f"{options.text('prefix').strip('/')}/files"


class Signing:
    """How addresses for clients are signed."""

    def __init__(self, secret: str, access: str, container_keys: bool) -> None:
        self.secret, self.access = secret, access
        self.container_keys = container_keys  # only where Swift itself does not tell
        self.digest = ""  # empty until it is known
        self.methods: Sequence[str] = ()


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what went wrong as an OSError."""
    try:
        yield
    except ClientException as error:
        if error.http_status == 404:
            raise FileNotFoundError(2, "No such object") from error
        raise OSError(f"swift: {reason(error)}") from error
    except swift_login.FAILURES as error:
        raise OSError(f"swift: {reason(error)}") from error
    except requests.RequestException as error:  # an OSError without the words
        raise OSError(f"swift: {reason(error)}") from error


class SwiftBucket:
    """One container."""

    least = 5 * MiB  # any length will do, but a large object has not many segments
    together = 1

    def __init__(
        self,
        login: swift_login.Login,
        container: str,
        chunk: int,
        segments: str,
        signing: Signing,
    ) -> None:
        self._login = login
        self.container = container
        self.name = f"swift://{container}"
        self.chunk = chunk
        self.segments = segments
        self._signing = signing
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[Connection] = []
        self._is_there = False
        self._streams = Streams("swift", SECONDS, TRIES, verify=not login.insecure)

    def _connection(self) -> Connection:
        """Return this thread's connection, once the container is there."""
        found = getattr(self._local, "connection", None)
        if found is None:
            found = self._login.connect(
                retries=TRIES, timeout=SECONDS, starting_backoff=BACKOFF, max_backoff=4
            )
            self._local.connection = found
            with self._lock:
                self._opened.append(found)
        if not self._is_there:
            found.put_container(self.container)  # nothing happens if it is there
            self._is_there = True
        return found

    @contextlib.contextmanager
    def calling(self) -> Iterator[Connection]:
        """Lend this thread's connection."""
        with told():
            yield self._connection()

    def head(self, key: str) -> Entry:
        with self.calling() as swift:
            found = swift.head_object(self.container, key)
        modified = float(found.get("x-timestamp", 0))
        return Entry(key, int(found["content-length"]), modified, found["etag"].strip('"'))

    def get(self, key: str, offset: int, size: int) -> Body:
        # A connection is its thread's, and what comes is read by others.
        try:
            return self._streams.get(*self._place(key), offset, size)
        except PermissionError:  # a token does not last for ever
            return self._streams.get(*self._place(key, anew=True), offset, size)

    def _place(self, key: str, anew: bool = False) -> tuple[str, dict[str, str]]:
        """Return the address of an object, and the headers that open it."""
        with self.calling() as swift:
            if anew or not swift.token:
                swift.url, swift.token = swift.get_auth()
            url = f"{swift.url}/{quote(self.container)}/{quote(key)}"
            return url, {"X-Auth-Token": swift.token}

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        with self.calling() as swift:
            etag = swift.put_object(
                *(self.container, key, content, size),
                content_type="application/octet-stream",
            )
        return Entry(key, size, etag=etag.strip('"'))

    def list(self, prefix: str) -> Iterator[Entry]:
        for found in self._pages(prefix, ""):
            key, size = found["name"], found["bytes"]
            if size == 0 and LARGE.search(key):  # perhaps it has segments
                with contextlib.suppress(FileNotFoundError):
                    yield self.head(key)
            else:
                yield Entry(key, size, 0.0, found["hash"])

    def names(self, prefix: str) -> Iterator[str]:
        for found in self._pages(prefix, "/"):
            name = found["subdir"][:-1] if "subdir" in found else found["name"]
            if name != prefix:
                yield name[len(prefix) :]

    def _pages(self, prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
        marker = ""
        while True:
            with self.calling() as swift:
                page = swift.get_container(
                    *(self.container, marker, PAGE, prefix, delimiter or None)
                )[1]
            if not page:
                return
            yield from page
            marker = page[-1].get("subdir") or page[-1]["name"]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with contextlib.suppress(FileNotFoundError), self.calling() as swift:
                query = None
                if LARGE.search(key):
                    found = swift.head_object(self.container, key)
                    if found.get("x-static-large-object", "").lower() == "true":
                        query = "multipart-manifest=delete"
                    self._delete_dynamic(found.get("x-object-manifest", ""))
                swift.delete_object(self.container, key, query_string=query)

    def large(self, key: str) -> Sequence[str]:
        """Return the keys of the segments that an object consists of; none if it is a plain one."""
        if not LARGE.search(key):
            return []
        with contextlib.suppress(FileNotFoundError), self.calling() as swift:
            found = swift.head_object(self.container, key)
            if found.get("x-static-large-object", "").lower() == "true":
                query = "multipart-manifest=get"
                listed = json.loads(swift.get_object(self.container, key, query_string=query)[1])
                return [str(part["name"]).split("/", 2)[2] for part in listed]
        return []

    def put_large(self, key: str, segments: Sequence[dict[str, Any]]) -> None:
        """Make an object of segments, in place of what was there, whose segments are removed."""
        before = self.large(key)
        told = [{**segment, "path": f"/{self.container}/{segment['path']}"} for segment in segments]
        with self.calling() as swift:
            swift.put_object(
                *(self.container, key, json.dumps(told)),
                content_type="application/octet-stream",
                query_string="multipart-manifest=put",
            )
        self._forget(before, {segment["path"] for segment in segments})

    def _forget(self, segments: Sequence[str], kept: Set[str] = frozenset()) -> None:
        """Remove segments that nothing leads to any more. Those that stay cost nothing but room."""
        with contextlib.suppress(OSError):
            self.delete([segment for segment in segments if segment not in kept])

    def delete_plain(self, key: str) -> None:
        """Remove an object, and leave its segments."""
        with self.calling() as swift:
            swift.delete_object(self.container, key)

    def sweep(self, before: float) -> None:
        sweep(self, before)

    def _delete_dynamic(self, manifest: str) -> None:
        """Remove the segments of an object that docker-registry has put together."""
        container, _, prefix = unquote(manifest).partition("/")
        if container == self.container and prefix:
            for found in self._pages(prefix, ""):
                with contextlib.suppress(FileNotFoundError), self.calling() as swift:
                    swift.delete_object(self.container, found["name"])

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> Move:
        return SwiftJoin(self, parts, target, threads)

    def copy(self, part: Entry, target: str) -> None:
        """Copy one object, which nobody may have changed."""
        answer: dict[str, Any] = {}
        before = self.large(target)
        with self.calling() as swift:
            destination = f"/{quote(self.container)}/{quote(target)}"
            swift.copy_object(self.container, part.key, destination, response_dict=answer)
        copied = answer.get("headers", {}).get("etag", "").strip('"')
        if copied != part.etag:
            self.delete([target])
            raise OSError(f"swift: {part.key} was changed by others")
        self._forget(before)

    def append(self, key: str, offset: int, sending: Sending) -> Writer | None:
        return None

    def url(self, key: str, method: str) -> str:
        with self.calling() as swift:
            storage, _ = swift.get_auth() if swift.url is None else (swift.url, swift.token)
            signing = self._prepared(swift)
        if not signing.digest or method not in signing.methods:
            return ""
        place = urlsplit(storage)
        path = f"{place.path}/{self.container}/{key}"
        signed: str = generate_temp_url(
            path, URL_SECONDS, signing.secret, method, digest=signing.digest
        )
        if signing.access:  # as HP's clouds want it
            account = place.path.rpartition("/")[2].removeprefix("AUTH_")
            signed = signed.replace("sig=", f"sig={account}:{signing.access}:", 1)
        way, _, query = signed.partition("?temp_url_sig=")
        return f"{place.scheme}://{place.netloc}{quote(way)}?temp_url_sig={query}"

    def _prepared(self, swift: Connection) -> Signing:
        """Find out how Swift wants to be signed to, and let it know the key."""
        signing = self._signing
        with self._lock:
            if signing.methods:
                return signing
            try:
                told = swift.get_capabilities().get("tempurl")
            except ClientException:  # nobody is told
                told = {"methods": ["GET", "HEAD"], "allowed_digests": ["sha1"]}
            digests = (told or {}).get("allowed_digests", ["sha1"])
            signing.digest = next((d for d in ("sha256", "sha512", "sha1") if d in digests), "")
            signing.methods = (told or {}).get("methods") or ["none"]
            if signing.digest:
                self._tell_key(swift, signing)
        return signing

    def _tell_key(self, swift: Connection, signing: Signing) -> None:
        have: Mapping[str, str] = swift.head_container(self.container)
        if not signing.secret:  # another registry on this container may have made one
            signing.secret = have.get(TEMP_URL_KEY, "") or secrets.token_hex(32)
        if have.get(TEMP_URL_KEY) != signing.secret:
            swift.post_container(self.container, {TEMP_URL_KEY: signing.secret})

    def check(self) -> None:
        with self.calling() as swift:
            swift.head_container(self.container)

    def close(self) -> None:
        self._streams.close()
        with self._lock:
            for connection in self._opened:
                connection.close()
