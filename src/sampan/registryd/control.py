"""How commands reach the registry that runs: HTTP on a socket in the registry's own folder.

Who may open the folder may ask. Answers are lines of JSON, each as soon as there is something to
tell; the last one is `{"done": true}` or `{"error": "…"}`.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sampan.errors import Conflict, SampanError, Unavailable
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.registryd.upkeep import Line, Tell, Upkeep

NAME = "control"
BACKLOG = 8
Work = Callable[[Tell], None]


def work(upkeep: Upkeep, what: str, given: dict[str, str]) -> Work | None:
    """Return what a command wants done; None if nobody knows it."""
    if what == "retention":
        return lambda tell: upkeep.retain(tell, given.get("dry_run") == "1")
    if what == "scrub":
        rate = float(given["rate"]) if "rate" in given else None
        return lambda tell: upkeep.scrub(tell, rate, given.get("report") == "1")
    if what == "collect":
        delay = float(given["delay"]) if "delay" in given else None
        return lambda tell: upkeep.collect(
            tell, delay, given.get("untagged") == "1", given.get("dry_run") == "1"
        )
    if what == "quotas":
        return upkeep.quotas
    return None


def handler(upkeep: Upkeep) -> Callable[[Request], Awaitable[Response | StreamingResponse]]:
    """Return what answers on the socket."""

    async def answer(request: Request) -> Response | StreamingResponse:
        names = ("dry_run", "rate", "report", "delay", "untagged")
        given = {name: request.query.get(name) for name in names if name in request.query}
        wanted = work(upkeep, request.path.strip("/"), given) if request.method == "POST" else None
        if wanted is None:
            return Response(404, b'{"error": "not known"}\n')
        return StreamingResponse(200, _lines(wanted), content_type="application/x-ndjson")

    return answer


async def _lines(wanted: Work) -> AsyncIterator[bytes]:
    """Yield what a work in a thread tells."""
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Line | None] = asyncio.Queue()

    def tell(line: Line) -> None:
        loop.call_soon_threadsafe(told.put_nowait, line)

    def run() -> None:
        try:
            wanted(tell)
            last: Line = {"done": True}
        except (SampanError, OSError) as error:
            last = {"error": str(error)}
        loop.call_soon_threadsafe(told.put_nowait, last)
        loop.call_soon_threadsafe(told.put_nowait, None)

    done = loop.run_in_executor(None, run)
    while (line := await told.get()) is not None:
        yield json.dumps(line).encode() + b"\n"
    await done


def listen(folder: Path) -> socket.socket:
    """Return a socket in a folder, in place of one that was left there."""
    path = folder / NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as name:
            listener.bind(name)
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Lend a name for a path that fits into an address, however long the path is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("registry")
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            with _short(self._path) as name:
                sock.connect(name)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def ask(folder: Path, what: str, given: dict[str, str]) -> Iterator[Line] | None:
    """Return what the registry tells that runs on a folder; None if none runs."""
    connection = _Connection(folder / NAME)
    try:
        connection.request("POST", f"/{what}?{urlencode(given)}", b"")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise Unavailable(f"the registry's socket {folder / NAME}: {error.strerror}") from error
    return _read(connection)


def _read(connection: http.client.HTTPConnection) -> Iterator[Line]:
    try:
        answer = connection.getresponse()
        for text in answer:
            line: dict[str, Any] = json.loads(text)
            if "error" in line:
                raise Conflict(str(line["error"]))
            if line.get("done"):
                return
            yield line
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"the registry went away: {error}") from error
    finally:
        connection.close()
    raise Unavailable("the registry went away")
