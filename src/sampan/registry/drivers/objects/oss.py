"""Buckets of Alibaba Cloud's Object Storage Service. Parts are joined by copying inside it.

Source of the options: distribution registry/storage/driver/oss/oss.go, 2.8.3.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import BinaryIO

import oss2
import oss2.exceptions
import requests
from oss2.models import PartInfo

from sampan.errors import InvalidArgument
from sampan.registry.drivers.driver import Closing, Move, Writer
from sampan.registry.drivers.objects.bucket import URL_SECONDS, Body, Entry, ToldBody, reason
from sampan.registry.drivers.objects.options import KiB, MiB, Options
from sampan.registry.drivers.objects.outbox import Sending

log = logging.getLogger(__name__)
CONNECT_SECONDS = 30
MOST_PARTS = 10_000
MOST_COPY = 1 << 30  # bytes that one request copies
COPIED = 128 * MiB  # of a large object, by one request
PIECE = 256 * KiB  # that is hashed at once


def bucket(options: Options) -> OssBucket:
    """Open the bucket that a configuration describes; raise InvalidArgument."""
    region = options.text("region", needed=True)
    name = options.text("bucket", needed=True)
    scheme = "https" if options.flag("secure", True) else "http"
    inside = "-internal" if options.flag("internal", False) else ""
    host = options.text("endpoint") or f"{region}{inside}.aliyuncs.com"
    endpoint = host if "://" in host else f"{scheme}://{host}"
    keys = (
        options.text("accesskeyid", needed=True),
        options.text("accesskeysecret", needed=True),
    )
    extra = {}
    if options.flag("encrypt", False):
        key = options.text("encryptionkeyid")
        extra["x-oss-server-side-encryption"] = "KMS" if key else "AES256"
        if key:
            extra["x-oss-server-side-encryption-key-id"] = key
    # Its checksum is written in Python: Content-MD5 says the same, and the server looks at it.
    try:
        opened = oss2.Bucket(
            oss2.Auth(*keys), endpoint, name, connect_timeout=CONNECT_SECONDS, enable_crc=False
        )
    except oss2.exceptions.ClientError as error:
        raise InvalidArgument(f"{options.place}: {error.body}") from error
    return OssBucket(opened, options.number("chunksize", 10 * MiB, 5 * MiB), extra, root(options))


def root(options: Options) -> str:
    """Return what stands before every key."""
    return options.text("rootdirectory")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what went wrong as an OSError."""
    try:
        yield
    except oss2.exceptions.NotFound as error:
        if getattr(error, "code", "") == "NoSuchBucket":
            raise OSError(f"oss: NoSuchBucket: {error.message}") from error
        raise FileNotFoundError(2, "No such object") from error
    except oss2.exceptions.RequestError as error:
        raise OSError(f"oss: {reason(error.exception)}") from error
    except oss2.exceptions.OssError as error:
        code = error.code or f"status {error.status}"  # what stands between us says no code
        raise OSError(f"oss: {code}: {error.message}".rstrip(": ")) from error
    except requests.RequestException as error:
        raise OSError(f"oss: {reason(error)}") from error


class OssBucket:
    """One bucket."""

    least = MiB  # a tenth would do, but then there would be ten times as many parts
    together = 1000

    def __init__(
        self, bucket: oss2.Bucket, chunk: int, extra: dict[str, str], root: str = ""
    ) -> None:
        """`root` is what stands before every key of ours: other multipart uploads are let be."""
        self.bucket = bucket
        self.name = f"oss://{bucket.bucket_name}"
        self.chunk = chunk
        self.extra = extra
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        self.live: set[str] = set()  # ids of the multipart uploads that we are at

    def head(self, key: str) -> Entry:
        with told():
            found = self.bucket.head_object(key)
        return Entry(key, found.content_length, float(found.last_modified), found.etag)

    def get(self, key: str, offset: int, size: int) -> Body:
        with told():
            found = self.bucket.get_object(key, byte_range=(offset, offset + size - 1))
        if found.content_length != size:
            found.close()
            raise OSError(f"oss: {key} has another length than it had")
        return ToldBody(found, told)

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        digest = hashlib.md5(usedforsecurity=False)
        while piece := content.read(PIECE):
            digest.update(piece)
        content.seek(0)
        headers = {**self.extra, "Content-MD5": base64.b64encode(digest.digest()).decode()}
        with told():
            # `requests` takes a file without content for a body of unknown length.
            done = self.bucket.put_object(key, content if size else b"", headers=headers)
        return Entry(key, size, etag=done.etag)

    def list(self, prefix: str) -> Iterator[Entry]:
        with told():
            for found in oss2.ObjectIteratorV2(self.bucket, prefix=prefix, max_keys=1000):
                yield Entry(found.key, found.size, float(found.last_modified), found.etag)

    def names(self, prefix: str) -> Iterator[str]:
        with told():
            listed = oss2.ObjectIteratorV2(self.bucket, prefix, delimiter="/", max_keys=1000)
            for found in listed:
                if found.key != prefix:
                    yield found.key[len(prefix) :].rstrip("/")

    def delete(self, keys: Sequence[str]) -> None:
        with told():
            self.bucket.batch_delete_objects(list(keys))

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> Move:
        return OssJoin(self, parts, target, threads)

    def append(self, key: str, offset: int, sending: Sending) -> Writer | None:
        return None

    def url(self, key: str, method: str) -> str:
        with told():
            address: str = self.bucket.sign_url(method, key, URL_SECONDS, slash_safe=True)
        return address

    def sweep(self, before: float) -> None:
        with told():
            for begun in oss2.MultipartUploadIterator(self.bucket, prefix=self.root):
                if begun.initiation_date < before and begun.upload_id not in self.live:
                    self.bucket.abort_multipart_upload(begun.key, begun.upload_id)
                    log.info("%s: what was begun of %s is ended", self.name, begun.key)

    def check(self) -> None:
        with told():
            self.bucket.list_objects_v2(max_keys=1)

    def close(self) -> None:
        """Its connections belong to the library."""


class OssJoin(Closing):
    """A copy of one object, or of the parts of one; what is large is copied in pieces."""

    def __init__(
        self, bucket: OssBucket, parts: Sequence[Entry], target: str, threads: Executor
    ) -> None:
        self._bucket = bucket
        self._parts = parts
        self._target = target
        self._threads = threads
        self._id = ""
        self._done: list[PartInfo] = []

    def prepare(self) -> None:
        if len(self._parts) == 1 and self._parts[0].size <= MOST_COPY:
            return
        pieces = list(self._pieces())
        if len(pieces) > MOST_PARTS:
            raise OSError(f"oss: {len(pieces)} parts are too many: set a larger chunksize")
        bucket = self._bucket
        with told():
            begun = bucket.bucket.init_multipart_upload(self._target, headers=bucket.extra)
        self._id = begun.upload_id
        bucket.live.add(self._id)
        self._done += self._threads.map(self._copy, pieces)

    def _pieces(self) -> Iterator[tuple[int, Entry, tuple[int, int] | None]]:
        number = 1
        for part in self._parts:
            count = max(part.size // COPIED, 1)
            for turn in range(count):
                end = part.size if turn + 1 == count else (turn + 1) * COPIED
                yield number, part, (turn * COPIED, end - 1) if count > 1 else None
                number += 1

    def _copy(self, piece: tuple[int, Entry, tuple[int, int] | None]) -> PartInfo:
        number, part, wanted = piece
        bucket = self._bucket.bucket
        with told():
            done = bucket.upload_part_copy(
                *(bucket.bucket_name, part.key, wanted or (0, part.size - 1)),
                *(self._target, self._id, number),
                headers={"x-oss-copy-source-if-match": part.etag},
            )
        return PartInfo(number, done.etag)

    def publish(self) -> None:
        if not self._id:
            self.prepare()
        bucket = self._bucket.bucket
        if not self._id:
            (part,) = self._parts
            headers = {**self._bucket.extra, "x-oss-copy-source-if-match": part.etag}
            with told():
                bucket.copy_object(bucket.bucket_name, part.key, self._target, headers=headers)
            return
        with told():
            bucket.complete_multipart_upload(self._target, self._id, self._done)
        self._forget()

    def _forget(self) -> None:
        self._bucket.live.discard(self._id)
        self._id = ""

    def close(self) -> None:
        if self._id:
            with contextlib.suppress(OSError), told():
                self._bucket.bucket.abort_multipart_upload(self._target, self._id)
            self._forget()
