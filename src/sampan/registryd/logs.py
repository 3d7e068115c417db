"""The registry's own log, on standard error, in docker-registry's formats: text, json, logstash."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import BinaryIO, TextIO, cast

from sampan.http.urls import redacted_text
from sampan.registry.observability import controls

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
_NAMES = {logging.CRITICAL: "fatal", logging.ERROR: "error", logging.WARNING: "warning"}

_INVISIBLE = controls.ESCAPED | {n: f"\\x{n:02x}" for n in range(32) if n not in (9, 10)}


class Formatter(logging.Formatter):
    """Writes records as one of the formats; `fields` are in every line."""

    def __init__(self, kind: str, fields: Mapping[str, str], caller: bool = False) -> None:
        super().__init__()
        self._kind = kind
        self._fields = fields
        self._caller = caller

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fraction = f".{int(record.msecs * 1000) % 1_000_000:06d}Z"
        level = _NAMES.get(record.levelno, record.levelname.lower())
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        message = redacted_text(message)  # libraries tell addresses as they were given to them
        fields = dict(self._fields)
        if self._caller:
            fields["file"] = f"{record.filename}:{record.lineno}"
        if self._kind == "json":
            return json.dumps({**fields, "level": level, "msg": message, "time": moment + fraction})
        if self._kind == "logstash":
            head = {"@timestamp": moment + fraction, "@version": "1", "level": level}
            return json.dumps({**fields, **head, "message": message, "type": "registry"})
        rest = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        return f'time="{moment}Z" level={level} msg={_quoted(message)}{rest}'


def shown(text: str) -> str:
    """Return lines as terminals and mail may have them: no passwords of addresses, no controls."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return redacted_text(text).translate(_INVISIBLE)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(controls.ESCAPED)


def unbuffered(out: TextIO) -> TextIO:
    """Return a stream to the same file that keeps nothing: what it does not take is not kept."""
    try:
        raw = io.FileIO(out.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # it is no file
        return out
    # Typed as if it wanted a buffer; any stream of bytes will do.
    return io.TextIOWrapper(cast(BinaryIO, raw), "utf-8", "backslashreplace", write_through=True)


def configure(level: str, kind: str, fields: Mapping[str, str], caller: bool = False) -> None:
    """Send all records of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(kind, fields, caller))
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    # Granian tells of its parts' comings and goings, and that its embedded server is experimental.
    logging.getLogger("_granian").setLevel(logging.ERROR)
