"""Serve one page: `python -m harbour PORT`."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version


class Page(BaseHTTPRequestHandler):
    """Says what is installed."""

    def do_GET(self) -> None:
        """Answer."""
        body = f"harbour {version('harbour')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(sys.argv[1])), Page).serve_forever()
