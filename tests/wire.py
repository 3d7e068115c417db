"""HTTP servers of tests and a client for them, in any network namespace."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

from sampan.network.sandbox import inside
from tests.session import PATIENCE

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def within(namespace: str) -> Iterator[None]:
    """Move this thread into a named network namespace for a while; "" is the host's."""
    if not namespace:
        yield
        return
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(fd):
            yield
    finally:
        os.close(fd)


@dataclass
class Reply:
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """Where a server listens, and how it is asked."""

    namespace: str = ""
    host: str = LOOPBACK
    port: int = 0
    context: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        """The address as it stands in an image's name: host:port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://{self.address}"

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        """Return a connection; raises OSError if nobody listens."""
        with within(self.namespace):
            sock = socket.create_connection((self.host, self.port), timeout)
        if not self.context:
            return sock
        return self.context.wrap_socket(sock, server_hostname=self.host)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request on a connection of its own; redirects are not followed."""
        connection = http.client.HTTPConnection(self.host, self.port)
        connection.sock = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.msg, response.read())


class Server(ThreadingHTTPServer):
    """A server that ends its connections when it ends, and says nothing of broken ones."""

    daemon_threads = False
    request_queue_size = 256

    def __init__(self, site: Site, handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.ending = threading.Event()
        with within(site.namespace):
            super().__init__((site.host, site.port), handler)
        site.port = self.server_address[1]
        self.site = site

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        with self._lock:
            self._open.add(sock)
        return sock, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is no event."""

    def server_close(self) -> None:
        self.ending.set()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        super().server_close()


class TLSServer(Server):
    """The same with TLS; handshakes happen in the connection's own thread."""

    def use(self, certificate: trustme.LeafCert) -> None:
        """Show this certificate."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[None]:
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


@dataclass
class Log:
    """Requests that a server has seen; safe to use from several threads."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def count(self, method: str = "", part: str = "") -> int:
        """Return how many requests had this method and this in their path."""
        return sum(method in ("", m) and part in path for m, path in list(self.lines))

    def clear(self) -> None:
        self.lines.clear()
