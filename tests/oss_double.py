"""A double of Alibaba Cloud's Object Storage Service: what our driver uses of it.

It looks at signatures (version 1, in headers and in addresses), at Content-MD5 and at the lengths
of parts, and answers in the service's own words. Source: the service's API reference, "Include
signatures in the Authorization header" and the pages of each operation. What is large is in files.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import mmap
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

ID, SECRET = "double-id", "double-secret"
BUCKET = "double"
LEAST_PART = 100 << 10
SUBRESOURCES = ("uploads", "uploadId", "partNumber", "delete", "acl", "continuation-token")


LARGE = 1 << 20  # bytes, from which on content is in a file


class Joined:
    """Content of several pieces, which are not copied."""

    def __init__(self, pieces: Sequence[bytes | memoryview | Joined]) -> None:
        self.pieces = [part for piece in pieces for part in parts_of(piece)]
        self._length = sum(map(len, self.pieces))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice) -> Joined:
        first, last, _ = wanted.indices(self._length)
        found, begin = [], 0
        for piece in self.pieces:
            found.append(piece[max(first - begin, 0) : max(last - begin, 0)])
            begin += len(piece)
        return Joined(found)


Content = bytes | memoryview | Joined


def parts_of(content: Content) -> list[bytes | memoryview]:
    return content.pieces if isinstance(content, Joined) else [content]


def kept(content: bytes) -> Content:
    """Return content as it is stored: what is large in a file, mapped into memory."""
    if len(content) < LARGE:
        return content
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), len(content), access=mmap.ACCESS_READ))


@dataclass
class Stored:
    content: Content
    headers: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=time.time)

    @cached_property
    def etag(self) -> str:
        found = hashlib.md5()
        for part in parts_of(self.content):
            found.update(part)
        return f'"{found.hexdigest().upper()}"'


@dataclass
class Upload:
    key: str
    headers: dict[str, str]
    etags: dict[int, str] = field(default_factory=dict)
    parts: dict[int, Content] = field(default_factory=dict)
    begun: str = field(
        default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    )


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Oss:
    """The service: one bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.lock = threading.Lock()

    def stored(self, key: str) -> Stored:
        try:
            return self.objects[key]
        except KeyError:
            raise Refused(404, "NoSuchKey") from None

    def copied(self, headers: dict[str, str]) -> Content:
        """Return what a copying request copies."""
        source = unquote(headers["x-oss-copy-source"]).removeprefix(f"/{BUCKET}/")
        found = self.stored(source)
        wanted = headers.get("x-oss-copy-source-if-match")
        if wanted and wanted.strip('"') != found.etag.strip('"'):
            raise Refused(412, "PreconditionFailed")
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("x-oss-copy-source-range", ""))
        return found.content[int(part[1]) : int(part[2]) + 1] if part else found.content

    def complete(self, id: str, body: bytes) -> Stored:
        upload = self.uploads.get(id)
        if upload is None:
            raise Refused(404, "NoSuchUpload")
        wanted = [
            (int(part.findtext("PartNumber", "0")), part.findtext("ETag", "").strip('"'))
            for part in ElementTree.fromstring(body)
        ]
        pieces = [upload.parts.get(number, b"") for number, _ in wanted]
        for number, etag in wanted:
            known = upload.etags.get(number)
            if known is None or known.strip('"') != etag.upper():
                raise Refused(400, "InvalidPart")
        if any(len(piece) < LEAST_PART for piece in pieces[:-1]):
            raise Refused(400, "EntityTooSmall")
        made = self.objects[upload.key] = Stored(Joined(pieces), upload.headers)
        # Of several parts it is no MD5 of the content.
        told = hashlib.md5("".join(etag for _, etag in wanted).encode()).hexdigest().upper()
        made.etag = f'"{told}-{len(wanted)}"'
        del self.uploads[id]
        return made


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # The kernel would keep back a small body until the client acknowledges the headers.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, self.key = unquote(parts.path)[1:].partition("/")
        self.given = {name.lower(): value for name, value in self.headers.items()}
        try:
            self._check_signature()
            if bucket != BUCKET:
                raise Refused(404, "NoSuchBucket")
            digest = self.given.get("content-md5")
            if digest and digest != base64.b64encode(hashlib.md5(body).digest()).decode():
                raise Refused(400, "InvalidDigest")
            with self.server.oss.lock:
                answer = self._operate(body)
            self._answer(*answer)
        except Refused as error:
            text = f"<Error><Code>{error.code}</Code><Message>{error.code}</Message></Error>"
            self._answer(error.status, text.encode(), {})

    def _check_signature(self) -> None:
        given = self.given
        if "Signature" in self.query:
            date, name, told = (self.query[k] for k in ("Expires", "OSSAccessKeyId", "Signature"))
            if int(date) < time.time():
                raise Refused(403, "AccessDenied")
        else:
            date = given.get("date", "")
            name, _, told = given.get("authorization", "").removeprefix("OSS ").partition(":")
        own = sorted((k, v) for k, v in given.items() if k.startswith("x-oss-"))
        path = unquote(urlsplit(self.path).path)
        chosen = sorted((k, v) for k, v in self.query.items() if k in SUBRESOURCES)
        asked = "&".join(f"{k}={v}" if v else k for k, v in chosen)
        text = "\n".join(
            [
                self.command,
                *(given.get("content-md5", ""), given.get("content-type", ""), date),
                *(f"{k}:{v}" for k, v in own),
                path + (f"?{asked}" if asked else ""),
            ]
        )
        made = base64.b64encode(hmac.digest(SECRET.encode(), text.encode(), "sha1")).decode()
        if name != ID or not hmac.compare_digest(made, told):
            raise Refused(403, "SignatureDoesNotMatch")

    def _operate(self, body: bytes) -> tuple[int, Content, dict[str, str]]:
        oss = self.server.oss
        if not self.key:
            return self._on_bucket(body)
        if self.command in ("GET", "HEAD"):
            return self._read(oss.stored(self.key))
        if self.command == "DELETE":
            if "uploadId" in self.query:
                oss.uploads.pop(self.query["uploadId"], None)
            else:
                oss.objects.pop(self.key, None)
            return 204, b"", {}
        if "uploadId" in self.query or "uploads" in self.query:
            return self._upload(body)
        copies = "x-oss-copy-source" in self.given
        headers = {k: v for k, v in self.given.items() if "encryption" in k}
        made = Stored(oss.copied(self.given) if copies else kept(body), headers)
        oss.objects[self.key] = made
        text = f"<CopyObjectResult><ETag>{escape(made.etag)}</ETag></CopyObjectResult>"
        return 200, text.encode() if copies else b"", {"ETag": made.etag}

    def _upload(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        oss = self.server.oss
        if "uploads" in self.query:
            name = hashlib.sha1(f"{self.key}{time.time()}".encode()).hexdigest().upper()
            headers = {k: v for k, v in self.given.items() if "encryption" in k}
            oss.uploads[name] = Upload(self.key, headers)
            text = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId>"
            return 200, (text + "</InitiateMultipartUploadResult>").encode(), {}
        known = self.query["uploadId"]
        if self.command == "POST":
            etag = oss.complete(known, body).etag
            text = f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag>"
            return 200, (text + "</CompleteMultipartUploadResult>").encode(), {"ETag": etag}
        if known not in oss.uploads:
            raise Refused(404, "NoSuchUpload")
        piece = oss.copied(self.given) if "x-oss-copy-source" in self.given else kept(body)
        etag, number = Stored(piece).etag, int(self.query["partNumber"])
        oss.uploads[known].parts[number], oss.uploads[known].etags[number] = piece, etag
        text = f"<CopyPartResult><ETag>{escape(etag)}</ETag></CopyPartResult>"
        return 200, text.encode(), {"ETag": etag}

    def _read(self, found: Stored) -> tuple[int, Content, dict[str, str]]:
        headers = {
            "ETag": found.etag,
            "Last-Modified": formatdate(found.modified, usegmt=True),
            **found.headers,
        }
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.given.get("range", ""))
        if part is None or not int(part[1]) <= int(part[2]) < len(found.content):
            return 200, found.content, headers  # OSS answers any other range with the whole object
        first, last = int(part[1]), int(part[2])
        headers["Content-Range"] = f"bytes {first}-{last}/{len(found.content)}"
        return 206, found.content[first : last + 1], headers

    def _list_uploads(self) -> tuple[int, bytes, dict[str, str]]:
        prefix = self.query.get("prefix", "")
        listed = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{name}</UploadId>"
            f"<Initiated>{upload.begun}</Initiated></Upload>"
            for name, upload in self.server.oss.uploads.items()
            if upload.key.startswith(prefix)
        )
        told = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
        told += f"<NextKeyMarker></NextKeyMarker><NextUploadIdMarker></NextUploadIdMarker>{listed}"
        return 200, (told + "</ListMultipartUploadsResult>").encode(), {}

    def _on_bucket(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        oss = self.server.oss
        if self.command == "POST":
            for key in ElementTree.fromstring(body).iter("Key"):
                oss.objects.pop(key.text or "", None)
            return 200, b"<DeleteResult></DeleteResult>", {}
        if "uploads" in self.query:
            return self._list_uploads()
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after = self.query.get("continuation-token") or self.query.get("start-after", "")
        most = int(self.query.get("max-keys") or 100)
        listed: dict[str, str] = {}
        for key in sorted(oss.objects):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            name = f"{prefix}{head}{found}" if found else key
            if key.startswith(prefix) and name > after:
                listed[name] = "prefix" if found else "key"
        page = list(listed.items())[:most]
        more = len(listed) > len(page)
        lines = [f"<IsTruncated>{str(more).lower()}</IsTruncated>"]
        if more:
            lines.append(f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>")
        for name, kind in page:
            if kind == "prefix":
                text = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            else:
                text = self._listed(name, oss.objects[name])
            lines.append(text)
        text = f"<ListBucketResult>{''.join(lines)}</ListBucketResult>"
        return 200, text.encode(), {}

    def _listed(self, name: str, found: Stored) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.modified))
        return (
            f"<Contents><Key>{escape(name)}</Key><LastModified>{when}</LastModified>"
            f"<ETag>{escape(found.etag)}</ETag><Type>Normal</Type><Size>{len(found.content)}</Size>"
            "<StorageClass>Standard</StorageClass></Contents>"
        )

    def _answer(self, status: int, body: Content, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "x-oss-request-id": "1"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            for part in parts_of(body):
                self.wfile.write(part)


class Server(ThreadingHTTPServer):
    """Listens on the loopback network."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.oss = Oss()


@contextlib.contextmanager
def oss() -> Iterator[dict[str, Any]]:
    """Run it; yield the options of the driver."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield {
                "accesskeyid": ID,
                "accesskeysecret": SECRET,
                "region": "oss-cn-double",
                "bucket": BUCKET,
                "endpoint": f"http://127.0.0.1:{server.server_port}",
            }
        finally:
            server.shutdown()
            thread.join()
