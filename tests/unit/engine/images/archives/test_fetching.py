"""Importing an archive from the web."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sampan.errors import Forbidden, InvalidArgument, NotFound, SampanError, Upstream
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.reference import Reference
from tests import tarballs
from tests.image_shop import Shop, run

ROOT = tarballs.archive(tarballs.file("f", b"from the web" * 50_000))


class Handler(BaseHTTPRequestHandler):
    """Serves one archive, and everything that may go wrong."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = int(self.path[1:]) if self.path[1:].isdecimal() else 200
        self.send_response(302 if self.path in ("/moved", "/circle") else status)
        if self.path in ("/moved", "/circle"):
            self.send_header("Location", "/root.tar" if self.path == "/moved" else "/circle")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = ROOT if status == 200 else b" no such archive \n"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/short":
            self.wfile.write(body[:100_000])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def fetch(shop: Shop, address: str) -> list[ProgressMessage]:
    async def collect() -> list[ProgressMessage]:
        reference = Reference.parse("web:1")
        messages = shop.images.import_from(address, reference, changes=["LABEL a=b"])
        return [message async for message in messages]

    return run(collect())


@pytest.mark.parametrize("path", ["root.tar", "moved"])
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_an_archive_is_fetched_and_imported(
    shop: Shop, server: str, scheme: str, path: str
) -> None:
    first, *progress, last = fetch(shop, f"{scheme}{server}/{path}")
    image = run(shop.images.resolve("web:1"))
    assert first.status == f"Downloading from http://{server}/{path}"
    assert {message.status for message in progress} == {"Importing"}
    detail = progress[-1].progress_detail
    assert detail is not None
    assert (detail.current, detail.total) == (len(ROOT), len(ROOT))
    assert last.status == image.id
    assert image.config.diff_ids == [tarballs.digest(ROOT)]
    assert image.labels == {"a": "b"}


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("404", NotFound, "failed to GET http://{}/404 with status 404 Not Found: no such archive"),
        ("403", Forbidden, "failed to GET http://{}/403 with status 403 Forbidden"),
        ("500", Upstream, "failed to GET http://{}/500 with status 500 Internal Server Error"),
        ("circle", Upstream, 'Get "http://{}/circle": stopped after 10 redirects'),
        ("short", Upstream, "unexpected EOF"),
    ],
)
def test_what_a_server_says_against_it_is_told_and_nothing_stays(
    shop: Shop, server: str, path: str, kind: type[SampanError], sentence: str
) -> None:
    with pytest.raises(kind) as failure:
        fetch(shop, f"{server}/{path}")
    assert sentence.format(server) in str(failure.value)
    assert shop.listed(all=True) == []
    assert shop.blobs() == set()
    assert shop.mounter.staged == {}


def test_a_server_that_is_not_there_is_told(shop: Shop) -> None:
    with pytest.raises(Upstream, match="connection refused"):
        fetch(shop, "127.0.0.1:9/x.tar")


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x", "http://", "http://a b/"])
def test_what_is_no_address_of_the_web_is_refused(shop: Shop, address: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid address"):
        fetch(shop, address)
