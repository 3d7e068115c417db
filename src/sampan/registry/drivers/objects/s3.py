"""Buckets of Amazon S3, and of all who speak like it. Parts are joined by copying inside S3.

Source of the options: distribution registry/storage/driver/s3-aws/s3.go, 2.8.3 and 3.1.1.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, BinaryIO

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.session import Session

from sampan.errors import InvalidArgument
from sampan.registry.drivers.driver import Closing, Move, Writer
from sampan.registry.drivers.objects import s3_session
from sampan.registry.drivers.objects.bucket import URL_SECONDS, Body, Entry, ToldBody, reason
from sampan.registry.drivers.objects.options import MiB, Options
from sampan.registry.drivers.objects.outbox import Sending

log = logging.getLogger(__name__)
LEAST_PART = 5 * MiB  # what S3 joins, but for the last part
MOST_PARTS = 10_000
MOST_COPY = 5 << 30  # bytes that one CopyObject copies
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
CONNECT_SECONDS, READ_SECONDS, TRIES = 10, 30, 3
HOST_NAME = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # one that is a part of a certificate's
LOG_LEVELS = (
    "off",
    "debug",
    "debugwithsigning",
    "debugwithhttpbody",
    "debugwithrequestretries",
    "debugwithrequesterrors",
    "debugwitheventstreambody",
)


@dataclass(frozen=True)
class Copying:
    """How large objects are copied: `multipartcopy…`."""

    chunk: int
    concurrency: int
    threshold: int


def bucket(options: Options) -> S3Bucket:
    """Open the bucket that a configuration describes; raise InvalidArgument."""
    endpoint = options.text("regionendpoint")
    region = options.text("region", needed=not endpoint)
    session = s3_session.session()
    if not endpoint:
        _demand_region(session, region)
    if options.word("loglevel", LOG_LEVELS, "off") != "off":
        logging.getLogger("botocore").setLevel(logging.DEBUG)
    v4 = options.flag("v4auth", True)
    if not v4 and not endpoint:
        raise InvalidArgument(f"{options.place}.v4auth: only other storages than Amazon's take v2")
    name = options.text("bucket", needed=True)
    in_path = options.flag("forcepathstyle", bool(endpoint)) or not HOST_NAME.fullmatch(name)
    agent = options.text("useragent")
    config = Config(
        **({"user_agent": agent} if agent else {}),
        signature_version="s3v4" if v4 else "s3",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=64,
        request_checksum_calculation="when_required",  # others than Amazon know no newer ones
        response_checksum_validation="when_required",
        use_dualstack_endpoint=options.flag("usedualstack", False) or None,
        use_fips_endpoint=options.flag("usefipsendpoint", False) or None,
        s3={
            "addressing_style": "path" if in_path else "virtual",
            "use_accelerate_endpoint": options.flag("accelerate", False),
        },
    )
    clients = _clients(session, options, region, endpoint, config)
    copying = Copying(
        options.number("multipartcopychunksize", 32 * MiB, LEAST_PART, MOST_COPY),
        options.number("multipartcopymaxconcurrency", 100, 1),
        options.number("multipartcopythresholdsize", 32 * MiB, 0, MOST_COPY),
    )
    chunk = options.number("chunksize", 10 * MiB, LEAST_PART, MOST_COPY)
    return S3Bucket(*clients, name, chunk, copying, _extra(options), root(options))


def _demand_region(session: Session, region: str) -> None:
    try:
        session.get_partition_for_region(region)
    except BotoCoreError as error:
        raise InvalidArgument(f"storage.s3.region: {region} is no region of Amazon") from error


def _clients(
    session: Session, options: Options, region: str, endpoint: str, config: Config
) -> tuple[Any, Any]:
    """Return a client, and one that makes the addresses for clients."""
    scheme = "https" if options.flag("secure", True) else "http"
    common = {
        "region_name": region or "us-east-1",
        "use_ssl": scheme == "https",
        "verify": False if options.flag("skipverify", False) else None,
        "aws_access_key_id": options.text("accesskey") or None,
        "aws_secret_access_key": options.text("secretkey") or None,
        "aws_session_token": options.text("sessiontoken") or None,
        "config": config,
    }
    if endpoint and "://" not in endpoint:
        endpoint = f"{scheme}://{endpoint}"
    away = options.origin("redirectendpoint")
    try:
        client = session.create_client("s3", endpoint_url=endpoint or None, **common)
        signer = session.create_client("s3", endpoint_url=away, **common) if away else client
    except (BotoCoreError, ValueError) as error:
        raise InvalidArgument(f"{options.place}: {error}") from error
    return client, signer


def _extra(options: Options) -> dict[str, str]:
    """Return what every new object is said to be. What S3 does by itself is not said."""
    extra = {}
    if options.flag("encrypt", False):
        key = options.text("keyid")
        extra["ServerSideEncryption"] = "aws:kms" if key else "AES256"
        if key:
            extra["SSEKMSKeyId"] = key
    kind = options.word("storageclass", STORAGE_CLASSES, "STANDARD", upper=True)
    if kind not in ("NONE", "STANDARD"):
        extra["StorageClass"] = kind
    acl = options.word("objectacl", ACLS, "private")
    if acl != "private":
        extra["ACL"] = acl
    return extra


STORAGE_CLASSES = (
    "NONE",
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "OUTPOSTS",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
)
ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what S3 said as an OSError."""
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", ""))
        if code in MISSING:
            raise FileNotFoundError(2, "No such object") from error
        raise OSError(f"s3: {code}: {said.get('Message', '')}") from error
    except (BotoCoreError, HTTPClientError) as error:
        raise OSError(f"s3: {reason(error)}") from error


class S3Bucket:
    """One bucket."""

    least = LEAST_PART
    together = 1000

    def __init__(
        self,
        client: Any,
        signer: Any,
        bucket: str,
        chunk: int,
        copying: Copying,
        extra: dict[str, str],
        root: str = "",
    ) -> None:
        """`root` is what stands before every key of ours: other multipart uploads are let be."""
        self.client, self._signer = client, signer
        self.bucket = bucket
        self.name = f"s3://{bucket}"
        self.chunk = chunk
        self.copying = copying
        self.extra = extra
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        self.live: set[str] = set()  # ids of the multipart uploads that we are at

    def head(self, key: str) -> Entry:
        with told():
            found = self.client.head_object(Bucket=self.bucket, Key=key)
        return Entry(
            key, found["ContentLength"], found["LastModified"].timestamp(), found["ETag"].strip('"')
        )

    def get(self, key: str, offset: int, size: int) -> Body:
        wanted = f"bytes={offset}-{offset + size - 1}"
        with told():
            found = self.client.get_object(Bucket=self.bucket, Key=key, Range=wanted)
        if found.get("ContentLength") != size:
            found["Body"].close()
            raise OSError(f"s3: {key} has another length than it had")
        return ToldBody(found["Body"], told)

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        with told():
            done = self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **self.extra)
        return Entry(key, size, etag=done["ETag"].strip('"'))

    def list(self, prefix: str) -> Iterator[Entry]:
        for page in self._pages(Prefix=prefix):
            for found in page.get("Contents", ()):
                yield Entry(
                    found["Key"],
                    found["Size"],
                    found["LastModified"].timestamp(),
                    found.get("ETag", "").strip('"'),
                )

    def names(self, prefix: str) -> Iterator[str]:
        for page in self._pages(Prefix=prefix, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"][len(prefix) : -1]
            for found in page.get("Contents", ()):
                if found["Key"] != prefix:
                    yield found["Key"][len(prefix) :]

    def _pages(self, **query: str) -> Iterator[dict[str, Any]]:
        with told():
            pages = self.client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self.bucket, **query)

    def delete(self, keys: Sequence[str]) -> None:
        listed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with told():
            done = self.client.delete_objects(Bucket=self.bucket, Delete=listed)
        for failed in done.get("Errors", ()):
            raise OSError(f"s3: {failed.get('Code')}: {failed.get('Key')} is not removed")

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> Move:
        return S3Join(self, parts, target, threads)

    def append(self, key: str, offset: int, sending: Sending) -> Writer | None:
        return None

    def url(self, key: str, method: str) -> str:
        if self._signer.meta.config.signature_version is UNSIGNED:
            return ""
        operation = "head_object" if method == "HEAD" else "get_object"
        with told():
            address: str = self._signer.generate_presigned_url(
                operation, Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=URL_SECONDS
            )
        return address

    def sweep(self, before: float) -> None:
        with told():
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.root):
                for begun in page.get("Uploads", ()):
                    at = {"Key": begun["Key"], "UploadId": begun["UploadId"]}
                    if begun["Initiated"].timestamp() < before and at["UploadId"] not in self.live:
                        self.client.abort_multipart_upload(Bucket=self.bucket, **at)
                        log.info("%s: what was begun of %s is ended", self.name, at["Key"])

    def check(self) -> None:
        with told():
            self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def close(self) -> None:
        self.client.close()
        if self._signer is not self.client:
            self._signer.close()


class S3Join(Closing):
    """A copy of one object, or of the parts of one; what is large is copied in pieces."""

    def __init__(
        self, bucket: S3Bucket, parts: Sequence[Entry], target: str, threads: Executor
    ) -> None:
        self._bucket = bucket
        self._parts = parts
        self._threads = threads
        self._at = {"Bucket": bucket.bucket, "Key": target}
        self._id = ""
        self._done: list[dict[str, Any]] = []

    def _source(self, part: Entry) -> dict[str, Any]:
        source = {"Bucket": self._bucket.bucket, "Key": part.key}
        return {"CopySource": source, "CopySourceIfMatch": f'"{part.etag}"'}

    def _is_small(self) -> bool:
        size = sum(part.size for part in self._parts)
        return len(self._parts) == 1 and size <= self._bucket.copying.threshold

    def prepare(self) -> None:
        if self._is_small():
            return
        pieces = list(self._pieces())
        if len(pieces) > MOST_PARTS:
            raise OSError(f"s3: {len(pieces)} parts are too many: set a larger chunksize")
        with told():
            begun = self._bucket.client.create_multipart_upload(**self._at, **self._bucket.extra)
        self._id = begun["UploadId"]
        self._bucket.live.add(self._id)
        for group in _by(pieces, self._bucket.copying.concurrency):
            self._done += self._threads.map(self._copy, group)

    def _pieces(self) -> Iterator[tuple[int, Entry, str]]:
        """Yield numbers, parts, and the range that is copied of each; empty for all of it."""
        chunk = self._bucket.copying.chunk
        number = 1
        for part in self._parts:
            # The last piece takes the rest, so that none is too short to be joined.
            count = max(part.size // chunk, 1)
            for turn in range(count):
                end = part.size if turn + 1 == count else (turn + 1) * chunk
                yield number, part, f"bytes={turn * chunk}-{end - 1}" if count > 1 else ""
                number += 1

    def _copy(self, piece: tuple[int, Entry, str]) -> dict[str, Any]:
        number, part, wanted = piece
        ranged = {"CopySourceRange": wanted} if wanted else {}
        with told():
            done = self._bucket.client.upload_part_copy(
                **self._at, **self._source(part), **ranged, UploadId=self._id, PartNumber=number
            )
        return {"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]}

    def publish(self) -> None:
        client = self._bucket.client
        if not self._id:
            self.prepare()
        if not self._id:
            with told():
                client.copy_object(**self._at, **self._source(self._parts[0]), **self._bucket.extra)
            return
        with told():
            client.complete_multipart_upload(
                **self._at, UploadId=self._id, MultipartUpload={"Parts": self._done}
            )
        self._forget()

    def _forget(self) -> None:
        self._bucket.live.discard(self._id)
        self._id = ""

    def close(self) -> None:
        if self._id:
            with contextlib.suppress(OSError), told():
                self._bucket.client.abort_multipart_upload(**self._at, UploadId=self._id)
            self._forget()


def _by(items: list[Any], count: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), count):
        yield items[start : start + count]


def root(options: Options) -> str:
    """Return what stands before every key."""
    return options.text("rootdirectory")
