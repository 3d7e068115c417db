"""The daemon's own log: one line per fact, on standard error, in the format of dockerd."""

from __future__ import annotations

import json
import logging
import sys
import time

LEVELS = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}
NAMES = {
    logging.CRITICAL: "fatal",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
    logging.DEBUG: "debug",
}


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        stamp = f"{moment}.{int(record.msecs * 1000) % 1_000_000:06d}Z"
        level = NAMES.get(record.levelno, record.levelname.lower())
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if self._as_json:
            fields = {"time": stamp, "level": level, "msg": message, "module": record.name}
            return json.dumps(fields, ensure_ascii=False)
        quoted = json.dumps(message, ensure_ascii=False)
        return f'time="{stamp}" level={level} msg={quoted} module={record.name}'


def configure(log_format: str, level: str, debug: bool) -> None:
    """Send every record to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(log_format == "json"))
    logging.root.handlers[:] = [handler]
    set_level(level, debug)


def set_level(level: str, debug: bool) -> None:
    """Change from which level on records are written."""
    logging.root.setLevel(logging.DEBUG if debug else LEVELS[level.lower()])
