"""Images in layouts of clients, and clients that have not what they say."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sampan.api.buildkit import layouts
from sampan.api.buildkit.sessions import Session
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.http.grpc import connected, serve
from sampan.http.stream import SocketStream
from sampan.spec.digest import digest_of
from sampan.spec.platform import Platform
from tests.buildkit import Folders

HERE = Platform("linux", "amd64")
CONFIG, LAYER = b'{"os":"linux"}', b"layer" * 20_000


def described(content: bytes, **more: Any) -> dict[str, Any]:
    return {"digest": digest_of(content), "size": len(content), "mediaType": "x/y", **more}


MANIFEST = json.dumps(
    {"mediaType": "m/n", "config": described(CONFIG), "layers": [described(LAYER)] * 2}
).encode()
OTHER = json.dumps({"config": described(CONFIG), "layers": []}).encode()
INDEX = json.dumps(
    {
        "manifests": [
            described(OTHER, platform={"os": "linux", "architecture": "arm64"}),
            described(MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        ]
    }
).encode()
ALL = {digest_of(one): one for one in (CONFIG, LAYER, MANIFEST, OTHER, INDEX)}


def archive(blobs: Mapping[str, bytes], digest: str, platform: Platform = HERE) -> bytes:
    """Return what comes of a client's store."""

    async def run(client: Folders) -> bytes:
        one, other = socket.socketpair()
        ours, theirs = SocketStream(one), SocketStream(other)
        task = asyncio.ensure_future(serve(theirs, [client]))
        try:
            async with connected(ours) as (channel, _), asyncio.timeout(20):
                methods = frozenset(name.lower() for name in client.__mapping__())
                session = Session("s", channel, methods)
                pieces = layouts.archive_of(session, "store", digest, platform)
                return b"".join([piece async for piece in pieces])
        finally:
            task.cancel()
            await asyncio.wait([task])
            ours.close()
            theirs.close()

    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder, "blobs", "sha256")
        stored.mkdir(parents=True)
        for name, content in blobs.items():
            (stored / name.partition(":")[2]).write_bytes(content)
        return asyncio.run(run(Folders({}, stores={"oci:store": Path(folder)})))


@pytest.mark.parametrize("wanted", [MANIFEST, INDEX])
def test_one_image_becomes_a_layout(wanted: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(ALL, digest_of(wanted)))) as opened:
        files = {info.name: opened.extractfile(info) for info in opened}
        contents = {name: file.read() for name, file in files.items() if file}
    blobs = {f"blobs/{digest_of(one).replace(':', '/')}": one for one in (MANIFEST, CONFIG, LAYER)}
    assert {name: contents[name] for name in blobs} == blobs
    assert set(contents) == {*blobs, "oci-layout", "index.json"}
    [told] = json.loads(contents["index.json"])["manifests"]
    assert told == {"digest": digest_of(MANIFEST), "size": len(MANIFEST), "mediaType": "m/n"}


def test_the_image_of_the_platform_is_taken() -> None:
    arm = archive(ALL, digest_of(INDEX), Platform("linux", "arm64"))
    assert digest_of(OTHER).partition(":")[2].encode() in arm
    with pytest.raises(NotFound, match="no match for platform linux/s390x"):
        archive(ALL, digest_of(INDEX), Platform("linux", "s390x"))


def manifest(**fields: Any) -> bytes:
    return json.dumps({"config": described(CONFIG), "layers": [], **fields}).encode()


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (b"no json", InvalidArgument, "is no manifest"),
        (b"{}", InvalidArgument, "is no manifest of an image"),
        (b"[" * 100_000, InvalidArgument, "is no manifest"),
        (manifest(layers=[described(b"missing")]), SampanError, "not found"),
        (
            manifest(layers=[described(LAYER, size=5)]),
            InvalidArgument,
            "has another content",
        ),
        (
            manifest(layers=[described(LAYER) | {"size": len(LAYER) + 1}]),
            InvalidArgument,
            "has another content",
        ),
        (manifest(layers=[described(LAYER) | {"size": -1}]), InvalidArgument, "invalid size -1"),
        (
            manifest(layers=[described(LAYER) | {"digest": "../../etc/passwd"}]),
            InvalidArgument,
            "invalid checksum digest format",
        ),
    ],
)
def test_what_is_no_image_is_told(content: bytes, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        archive({**ALL, digest_of(content): content}, digest_of(content))


def test_a_blob_with_another_content_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="has another content"):
        archive({**ALL, digest_of(LAYER): LAYER[::-1]}, digest_of(MANIFEST))


def test_indexes_in_indexes_end() -> None:
    blobs, content = dict(ALL), INDEX
    for _ in range(5):
        content = json.dumps({"manifests": [described(content)]}).encode()
        blobs[digest_of(content)] = content
    with pytest.raises(InvalidArgument, match="indexes in indexes without end"):
        archive(blobs, digest_of(content))
