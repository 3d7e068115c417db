"""Which progress of a build is shown, and how its messages are followed.

Source: docker documentation, `docker buildx build`, "--progress".
"""

from __future__ import annotations

import os

from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from sampan.cli.building.live import Live
    from sampan.cli.building.plain import Plain
    from sampan.cli.invocation import Invocation

    Message = dict[str, Any]

KINDS = ("auto", "plain", "tty", "quiet", "rawjson")
TRACE = "sampan.build.trace"
_CONTEXT = "context"  # the digest of our own step
_OFF = ("0", "f", "false")


def chosen(cli: Invocation, wanted: str) -> str:
    """Return which of KINDS is shown; "classic" is what Docker's old builder shows.

    Raises Exit for a kind that there is not, and for a terminal that is none.
    """
    kind = wanted or os.environ.get("BUILDKIT_PROGRESS") or ""
    if not kind and os.environ.get("DOCKER_BUILDKIT", "").lower() in _OFF:
        return "classic"
    kind = kind or "auto"
    if kind not in KINDS:
        raise Exit(1, f"invalid progress mode {kind}: it is one of {', '.join(KINDS)}")
    if kind == "auto":
        return "tty" if cli.err.is_terminal() else "plain"
    if kind == "tty" and not cli.err.is_terminal():
        raise Exit(1, "failed to get console: provided file is not a console")
    return kind


class Raw:
    """Prints documents as they come."""

    def __init__(self, cli: Invocation) -> None:
        self._output = cli.err

    def take(self, document: Message) -> None:
        """Print a document."""
        from sampan.client import documents

        self._output.write(documents.encode(document) + b"\n")
        self._output.flush()

    def close(self) -> None:
        """Nothing more is to be printed."""


class Silent:
    """Prints nothing."""

    def take(self, document: Message) -> None:
        """Print nothing."""

    def close(self) -> None:
        """Print nothing."""


def shown(cli: Invocation, kind: str, start: Callable[[Callable[[Message], None]], Any]) -> Message:
    """Show a build; return what the daemon says of its image.

    `start` gets who hears of the context that is sent, and returns the messages of the build.
    """
    if kind == "tty":
        from sampan.cli.building.live import Live

        return _live(cli, Live(cli.err), start)
    if kind == "plain":
        from sampan.cli.building.plain import Plain

        return _followed(cli, Plain(cli.err), start)
    if kind == "rawjson":
        return _followed(cli, Raw(cli), start)
    return _followed(None, Silent(), start)


def _followed(
    cli: Invocation | None,
    printer: Plain | Raw | Silent,
    start: Callable[[Callable[[Message], None]], Any],
) -> Message:
    try:
        return _result(cli, start(printer.take), printer.take)
    finally:
        printer.close()


def _result(
    cli: Invocation | None, messages: Iterable[Any], take: Callable[[Message], None]
) -> Message:
    """Hand documents on; return the last word on the image. Raises Exit, Internal.

    What a daemon says that tells no steps is printed as it is.
    """
    from sampan.cli.display.progress import show

    image: Message = {}

    def others() -> Iterator[Message]:
        nonlocal image
        for message in messages:
            if isinstance(message, dict) and message.get("id") == TRACE:
                if isinstance(message.get("aux"), dict):
                    take(message["aux"])
                continue
            aux = message.get("aux") if isinstance(message, dict) else None
            if isinstance(aux, dict) and aux.get("ID"):
                image = aux
                continue
            if isinstance(message, dict) and str(message.get("stream")).startswith("sha256:"):
                image = {"ID": message["stream"].strip()}  # of Docker's quiet builds
            yield message

    show(others(), cli.out if cli else None)
    return image


def _live(
    cli: Invocation, printer: Live, start: Callable[[Callable[[Message], None]], Any]
) -> Message:
    """Follow in a thread, so that times go on while nothing comes."""
    import threading

    heard: list[Message] = []
    lock = threading.Lock()
    more = threading.Event()
    found: list[Message] = []
    failed: list[BaseException] = []

    def take(document: Message) -> None:
        with lock:
            heard.append(document)

    def follow() -> None:
        try:
            found.append(_result(cli, start(take), take))
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            failed.append(error)
        more.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        ended = False
        while not ended:
            ended = more.wait(0.05)
            with lock:
                waiting, heard[:] = list(heard), []
            for document in waiting:
                printer.take(document)
            printer.tick()
    finally:
        printer.close()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def counted(pieces: Iterable[bytes], take: Callable[[Message], None]) -> Iterator[bytes]:
    """Yield a context, and tell of it as a step of its own."""
    began = _now()
    step = {"digest": _CONTEXT, "name": "[internal] load build context", "started": began}
    take({"vertexes": [step]})
    size = told = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size - told >= 1 << 20:
            told = size
            take({"statuses": [_transfer(began, size)]})
    now = _now()
    take({"statuses": [{**_transfer(began, size), "completed": now}]})
    take({"vertexes": [{**step, "completed": now}]})


def _transfer(began: str, size: int) -> Message:
    return {
        "id": "transferring context:",
        "vertex": _CONTEXT,
        "current": size,
        "timestamp": _now(),
        "started": began,
    }


def _now() -> str:
    import time

    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 10**6):06d}Z"
