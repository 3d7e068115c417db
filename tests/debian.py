"""A Debian image for tests, and the packages that containers install.

The image is made of Debian's packages alone, once, and all that is fetched is kept in
.cache/debian/: it needs root, and half a minute.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sampan.network.sandbox import inside
from tests.daemon import REPOSITORY, Daemon

RELEASE = "bookworm"
IMAGE = f"debian:{RELEASE}-slim"
CACHE = REPOSITORY / ".cache" / "debian"
_UNUSED = ("doc", "info", "locale", "man")  # folders of /usr/share, which slim images do not have
_DPKG = ["force-unsafe-io", *(f"path-exclude=/usr/share/{name}/*" for name in _UNUSED)]
_KEPT = 14 * 24 * 3600  # seconds after its last use that a file is kept
_PATIENCE = 60  # seconds


def import_base(daemon: Daemon) -> None:
    """Give the daemon Debian's image; skip the test if its packages cannot be reached."""
    archive = _base()
    answer = daemon.request(
        "POST",
        f"/images/create?fromSrc=-&repo=debian&tag={RELEASE}-slim",
        archive.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200, answer.body
    assert b"errorDetail" not in answer.body, answer.body
    daemon.images.add(IMAGE)


def _base() -> Path:
    """Return the archive of the root, made unless it is there."""
    recipe = hashlib.sha256(" ".join([RELEASE, *_DPKG]).encode()).hexdigest()[:16]
    archive = CACHE / f"{RELEASE}-{recipe}.tar"
    if archive.exists():
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    draft = archive.with_suffix(f".{os.getpid()}")
    try:
        done = subprocess.run(
            ["mmdebstrap", "--mode=root", "--variant=apt", "--quiet", "--format=tar"]
            + [f"--dpkgopt={option}" for option in _DPKG]
            + [RELEASE, draft],
            capture_output=True,
            text=True,
            check=False,
        )
        if "E: " in done.stderr and "etch" in done.stderr:  # "Failed to fetch", "Unable to fetch"
            pytest.skip(f"Debian's packages cannot be reached: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        draft.rename(archive)
    finally:
        draft.unlink(missing_ok=True)
    return archive


class _Store:
    """Files of Debian's mirrors: what never changes is fetched once, all else once a session."""

    def __init__(self) -> None:
        self._folder = CACHE / "files"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fresh: set[Path] = set()
        for path in self._folder.iterdir():
            if time.time() - path.stat().st_mtime > _KEPT:
                path.unlink(missing_ok=True)

    def get(self, url: str) -> Path:
        """Return a file; OSError says why there is none."""
        path = self._folder / hashlib.sha256(url.encode()).hexdigest()
        if path.exists():
            os.utime(path)
            if path in self._fresh or "/pool/" in url or "/by-hash/" in url:
                return path
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE) as page, draft.open("wb") as file:
                shutil.copyfileobj(page, file)
            draft.rename(path)
            self._fresh.add(path)
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if not path.exists():
                raise
        finally:
            draft.unlink(missing_ok=True)
        return path


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: _Store

    def do_GET(self) -> None:
        try:
            path = self.store.get(self.path)
        except OSError as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else 502
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as file:
            shutil.copyfileobj(file, self.wfile)

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""


@contextmanager
def mirror(namespace: str) -> Iterator[int]:
    """Serve Debian's packages in a network namespace, as an HTTP proxy; give its port.

    The test is skipped if they are not here and cannot be reached.
    """
    store = _Store()
    _reach(store)
    handler = type("Proxy", (_Proxy,), {"store": store})
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(descriptor):
            server = ThreadingHTTPServer(("", 0), handler)
    finally:
        os.close(descriptor)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _reach(store: _Store) -> None:
    with tarfile.open(_base()) as tar:
        listed = tar.extractfile("./etc/apt/sources.list")
        assert listed
        words = listed.read().decode().split()
    start = next(at for at, word in enumerate(words) if urlsplit(word).scheme == "http")
    url = f"{words[start]}/dists/{words[start + 1]}/InRelease"
    try:
        store.get(url)
    except OSError as error:
        pytest.skip(f"Debian's packages cannot be reached: {url}: {error}")
