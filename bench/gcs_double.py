"""A double of Google Cloud Storage that keeps contents in files: what our driver uses of it.

    python bench/gcs_double.py FOLDER      # prints its port

For measuring: an object is a list of files, so that composing and copying move no bytes. It checks
nothing. The emulator of the tests holds all in memory, for a week after it was removed, reads and
hashes an object whole for each composition, and answers none of 16 clients of 500 MB in time.
Source: the JSON API's reference, Objects.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BUCKET = "double"
PIECE = 1 << 20
_numbers = itertools.count(1)


class Kept:
    """A file with content, which goes with the last object that has it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        weakref.finalize(self, os.unlink, path)


@dataclass
class Stored:
    name: str
    files: Sequence[Kept]
    generation: int
    modified: float

    def resource(self) -> dict[str, str]:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.modified))
        return {
            "kind": "storage#object",
            "name": self.name,
            "bucket": BUCKET,
            "size": str(sum(kept.size for kept in self.files)),
            "generation": str(self.generation),
            "metageneration": "1",
            "updated": f"{at}.000Z",
        }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        match = re.fullmatch(r"(/upload)?/storage/v1/b/[^/]+/o(?:/([^/]+))?(/.+)?", parts.path)
        if match is None:
            self._tell({"kind": "storage#bucket", "name": BUCKET})
            return
        name, more = unquote(match[2] or ""), match[3] or ""
        if match[1]:
            self._tell(self._upload().resource())
        elif not name:
            self._tell(self._listed())
        elif more == "/compose":
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sources = [self.server.objects[source["name"]] for source in body["sourceObjects"]]
            files = [kept for source in sources for kept in source.files]
            self._tell(self._store(name, files).resource())
        elif more:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            target = unquote(more.rpartition("/")[2])
            made = self._store(target, self.server.objects[name].files).resource()
            sizes = {"totalBytesRewritten": made["size"], "objectSize": made["size"]}
            self._tell({"done": True, **sizes, "resource": made})
        else:
            self._on_object(name)

    def _on_object(self, name: str) -> None:
        if self.command == "DELETE":
            with self.server.lock:
                found = self.server.objects.pop(name, None)
            self._tell({}, 204 if found else 404)
        elif name not in self.server.objects:
            self._tell({"error": {"code": 404, "message": "Not Found"}}, 404)
        elif self.query.get("alt") == "media":
            self._send(self.server.objects[name])
        else:
            self._tell(self.server.objects[name].resource())

    def _store(self, name: str, files: Sequence[Kept]) -> Stored:
        made = Stored(name, files, next(_numbers), time.time())
        with self.server.lock:
            self.server.objects[name] = made
        return made

    def _upload(self) -> Stored:
        left = int(self.headers["Content-Length"])
        if self.query["uploadType"] != "media":  # of the library's own, for what is empty
            text = self.rfile.read(left).decode()
            found = re.search(r'"name": *"([^"]+)"', text)
            return self._store(found[1] if found else self.query["name"], [])
        path, size = self.server.folder / f"content-{next(_numbers)}", left
        with path.open("wb") as file:
            while left:
                piece = self.rfile.read(min(left, PIECE))
                if not piece:
                    raise ConnectionError("the client hung up")
                file.write(piece)
                left -= len(piece)
        return self._store(self.query["name"], [Kept(path, size)])

    def _send(self, found: Stored) -> None:
        size = sum(kept.size for kept in found.files)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        first, last = (int(match[1]), int(match[2])) if match else (0, size - 1)
        last = min(last, size - 1)
        self.send_response(206 if match else 200)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        begin = 0
        for kept in found.files:
            start, end = max(first - begin, 0), min(last + 1 - begin, kept.size)
            begin += kept.size
            if start < end:
                with kept.path.open("rb") as file:
                    file.seek(start)
                    self.connection.sendfile(file, start, end - start)

    def _listed(self) -> dict[str, Any]:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        items, prefixes = [], set()
        with self.server.lock:
            everything = sorted(self.server.objects.items())
        for name, found in everything:
            if not name.startswith(prefix):
                continue
            head, separator, _ = name[len(prefix) :].partition(delimiter or "\0")
            if separator:
                prefixes.add(f"{prefix}{head}{separator}")
            else:
                items.append(found.resource())
        most = int(self.query.get("maxResults") or len(items))
        return {"kind": "storage#objects", "items": items[:most], "prefixes": sorted(prefixes)}

    def _tell(self, found: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(found).encode() if status != 204 else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Listens on the loopback network."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.objects: dict[str, Stored] = {}
        self.lock = threading.Lock()


@contextlib.contextmanager
def gcs(folder: Path) -> Iterator[dict[str, Any]]:
    """Run it in a process of its own; yield the options of the driver."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
        try:
            yield {"bucket": BUCKET}
        finally:
            os.environ.pop("STORAGE_EMULATOR_HOST")
            process.terminate()


if __name__ == "__main__":
    with Server(Path(sys.argv[1])) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
