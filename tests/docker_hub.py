"""What stands for Docker Hub in tests: a mirror of it, in the network namespace of a daemon."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registries import Registry, registry
from tests.remote_images import busybox, image, index, layer, push, small_layer
from tests.tarballs import archive, file, folder
from tests.wire import Server, Site, serving

PORT = 5000
OPTIONS = ("--registry-mirror", f"http://127.0.0.1:{PORT}")  # of the daemon

# What tests of other projects expect of a distribution: a user, and a folder.
DISTRIBUTION = archive(
    folder("etc"),
    file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/:/bin/sh\n"),
    folder("var"),
    folder("var/opt"),
)


@contextlib.contextmanager
def docker_hub(namespace: str) -> Iterator[Registry]:
    """Run the mirror; it has library/{alpine,busybox,hello-world,ubuntu}."""
    with registry(namespace, port=PORT) as hub:
        distribution = layer(DISTRIBUTION)
        arm = image(small_layer("arm"), architecture="arm64", variant="v8")
        for name, tag in (("alpine", "latest"), ("alpine", "3.10"), ("busybox", "latest")):
            made = busybox(distribution, small_layer(f"{name}-{tag}"))
            push(hub, f"library/{name}", tag, index(made, arm, attestations=True))
        hello = busybox(Cmd=["echo", "Hello from Docker!"])
        push(hub, "library/hello-world", "latest", hello)
        ubuntu = busybox(*(small_layer(f"ubuntu{n}") for n in range(4)))
        for tag in ("latest", "18.04"):
            push(hub, "library/ubuntu", tag, ubuntu)
        yield hub


FOUND = [
    ("centos", "The official build of CentOS.", 4754, True, False),
    ("ansible/centos7-ansible", "Ansible on Centos7", 118, False, True),
    (
        "jdeathe/centos-ssh",
        "CentOS-6 6.10 x86_64 / CentOS-7 7.5.1804 x86_64 / CentOS-8 8.3.2011 x86_64",
        99,
        False,
        True,
    ),
    ("tutum/centos", "Simple CentOS docker image with SSH access", 43, False, False),
]


class _Search(BaseHTTPRequestHandler):
    """The old index's search, as Docker Hub still has it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        status, body = 200, {}
        if url.path == "/v1/search":
            term, limit = query["q"][0], int(query.get("n", ["25"])[0])
            keys = ("name", "description", "star_count", "is_official", "is_automated")
            found = [dict(zip(keys, row, strict=True)) for row in FOUND if term in row[0]][:limit]
            body = {"query": term, "num_results": len(found), "results": found}
        elif url.path not in ("/v1/_ping", "/v2/"):
            status = 404
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Docker-Registry-Standalone", "true")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def search_index(namespace: str) -> Iterator[Site]:
    """Run an index that can be searched."""
    site = Site(namespace)
    with serving(Server(site, _Search)):
        yield site
