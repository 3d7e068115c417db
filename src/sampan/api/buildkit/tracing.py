"""The progress of a build as JSON, for clients of the classic endpoint that want to show it live.

Each message has what BuildKit's `--progress rawjson` prints as `aux`.

Source: buildkit client/graph.go (SolveStatus and its fields).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.buildkit.progress import Progress, Vertices
from sampan.build.built import Built
from sampan.build.telling.display import Exporting, Voices
from sampan.spec.buildkit import control_pb2 as pb
from sampan.spec.docker.images import ProgressMessage

TRACE: Final = "sampan.build.trace"  # the id of such messages
Document = dict[str, Any]


class Tracing:
    """Tells one build; see build.telling.display.Telling."""

    def __init__(self, name: str, say: Callable[[ProgressMessage], None]) -> None:
        self._say = say
        self._progress = Progress(name, self._told)

    def _told(self, message: pb.StatusResponse) -> None:
        self._say(ProgressMessage(id=TRACE, aux=document_of(message)))

    def voices(self, steps: int) -> Voices:
        """Return who listens to a build of so many steps."""
        return Vertices(self._progress, "", steps)

    def exporting(self) -> AbstractContextManager[Exporting]:
        """Tell that the image is stored and named."""
        return _Image(self._progress)

    def finished(self, built: Built, image: str, names: list[str]) -> None:
        """Tell what came of it."""
        warnings = [_warning(str(one), one.url, one.first) for one in built.violations]
        if built.unused:
            text = f"One or more build-args [{' '.join(built.unused)}] were not consumed"
            warnings.append(_warning(text, "", 0))
        if warnings:
            self._say(ProgressMessage(id=TRACE, aux={"warnings": warnings}))
        self._say(ProgressMessage(aux={"ID": image, "Names": names}))


class _Image:
    """The last vertex."""

    def __init__(self, progress: Progress) -> None:
        self._during = progress.during("exporting to image")

    def __enter__(self) -> Exporting:
        vertex = self._during.__enter__()
        return lambda text: vertex.log(f"{text}\n".encode())

    def __exit__(self, *error: Any) -> None:
        self._during.__exit__(*error)


def document_of(message: pb.StatusResponse) -> Document:
    """Return a message as JSON has it."""
    parts = {
        "vertexes": [_vertex(one) for one in message.vertexes],
        "statuses": [_status(one) for one in message.statuses],
        "logs": [_log(one) for one in message.logs],
    }
    return {name: part for name, part in parts.items() if part}


def _vertex(one: pb.Vertex) -> Document:
    return _present(
        digest=one.digest,
        inputs=list(one.inputs),
        name=one.name,
        started=_time(one.started),
        completed=_time(one.completed) if one.HasField("completed") else None,
        cached=one.cached,
        error=one.error,
    )


def _status(one: pb.VertexStatus) -> Document:
    return {
        **_present(id=one.ID, vertex=one.vertex, total=one.total),
        "current": one.current,
        **_present(
            timestamp=_time(one.timestamp),
            started=_time(one.started),
            completed=_time(one.completed) if one.HasField("completed") else None,
        ),
    }


def _log(one: pb.VertexLog) -> Document:
    return {
        "vertex": one.vertex,
        "stream": one.stream,
        "data": base64.b64encode(one.msg).decode(),
        "timestamp": _time(one.timestamp),
    }


def _warning(text: str, url: str, line: int) -> Document:
    short = base64.b64encode(text.encode("utf-8", "replace")).decode()
    where = [{"start": {"line": line}}] if line else None
    return _present(level=1, short=short, url=url, range=where)


def _present(**fields: Any) -> Document:
    return {name: value for name, value in fields.items() if value}


def _time(moment: Timestamp) -> str:
    text: str = moment.ToJsonString()
    return text
