"""What several tests of builds need."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.wire import LOOPBACK, Server, Site


@pytest.fixture
def clean(daemon: Daemon) -> Iterator[Daemon]:
    """Give a daemon, and leave it no images of this test and no cache."""
    yield daemon
    daemon.remove_other_images()
    assert daemon.request("POST", "/build/prune?all=1").status == 200


@pytest.fixture
def web(clean: Daemon, tmp_path: Path) -> Iterator[str]:
    """Serve a folder on the daemon's network; give its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = Server(Site(clean.namespace, LOOPBACK), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.site.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
