"""A volume plug-in in a process of its own: `python -m tests.volume_plugin SOCKET FOLDER`.

It keeps volumes as folders below FOLDER and writes every call into FOLDER/calls. What it does wrong
is written in FOLDER/fault: a line `METHOD FAULT` for each method.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

from tests.session import eventually


class Handler(BaseHTTPRequestHandler):
    """Answers one call."""

    folder: Path

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        method = self.path.rpartition(".")[2]
        with open(self.folder / "calls", "a") as file:
            file.write(json.dumps([method, body]) + "\n")
        while (fault := self._fault(method)) == "held":
            time.sleep(0.01)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        reply = self._reply(method, body.get("Name", ""), body)
        if fault.startswith("at "):
            reply["Mountpoint"] = fault[3:]
        if fault.startswith("err "):
            reply = {"Err": fault[4:]}
        content = b"\0nonsense" if fault == "nonsense" else json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _fault(self, method: str) -> str:
        lines = (self.folder / "fault").read_text().splitlines()
        return dict(line.split(" ", 1) for line in lines).get(method, "")

    def _reply(self, method: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        place = self.folder / "volumes" / name
        if method == "Activate":
            return {"Implements": ["VolumeDriver"]}
        if method == "Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if method == "List":
            names = sorted(os.listdir(self.folder / "volumes"))
            return {"Volumes": [{"Name": it, "Mountpoint": f"{place}{it}"} for it in names]}
        if method == "Create":
            place.mkdir(exist_ok=True)
            return {"Err": ""}
        if not place.is_dir():
            return {"Err": f"no volume {name} here"}
        if method == "Remove":
            for path in place.iterdir():
                path.unlink()
            place.rmdir()
        if method == "Get":
            status = {"shelf": 3}
            return {"Volume": {"Name": name, "Mountpoint": str(place), "Status": status}}
        return {"Mountpoint": str(place), "Err": ""}

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass
class Plugin:
    """A plug-in that runs."""

    socket: Path
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.volume_plugin", str(self.socket), str(self.folder)]
        )
        eventually(self._listens)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        """End it at once."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def fail(self, **faults: str) -> None:
        """Say what methods do wrong from now on."""
        lines = [f"{method} {fault}\n" for method, fault in faults.items()]
        (self.folder / "faults").write_text("".join(lines))
        (self.folder / "faults").rename(self.folder / "fault")

    def calls(self, *methods: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the calls of these methods that came."""
        lines = (self.folder / "calls").read_text().splitlines()
        found = [(method, body) for method, body in map(json.loads, lines)]
        return [call for call in found if call[0] in methods]


@contextmanager
def volume_plugin(path: Path, folder: Path) -> Iterator[Plugin]:
    """Run a plug-in."""
    folder.mkdir()
    (folder / "volumes").mkdir()
    (folder / "calls").write_text("")
    (folder / "fault").write_text("")
    plugin = Plugin(path, folder)
    plugin.start()
    try:
        yield plugin
    finally:
        plugin.kill()
        path.unlink(missing_ok=True)


def main() -> None:
    """Serve until killed."""
    Handler.folder = Path(sys.argv[2])
    with ThreadingUnixStreamServer(sys.argv[1], Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
