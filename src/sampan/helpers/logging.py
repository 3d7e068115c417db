"""Logging of a helper that outlives the daemon: to a file that cannot grow without end."""

from __future__ import annotations

import logging
import os
from pathlib import Path

MAX_BYTES = 1 << 20
_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class CappedFileHandler(logging.Handler):
    """Appends to a file; at MAX_BYTES the file is renamed to `.1`, whose place it takes.

    Several processes may write to one file: each opens it anew when it was renamed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._fd = path, -1

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what cannot be written is lost."""
        try:
            line = self.format(record).encode(errors="replace") + b"\n"
            os.write(self._open(), line)
        except OSError:
            pass  # nowhere to tell

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        super().close()

    def _open(self) -> int:
        if self._fd >= 0:
            about = os.fstat(self._fd)
            if about.st_size < MAX_BYTES and about.st_nlink:
                return self._fd
            os.close(self._fd)
            self._fd = -1
            try:
                if os.stat(self._path).st_ino == about.st_ino:
                    os.rename(self._path, f"{self._path}.1")
            except FileNotFoundError:
                pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o640)
        return self._fd


def log_to_file(path: Path, level: int = logging.INFO) -> None:
    """Send what this process logs to `path`."""
    handler = CappedFileHandler(path)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
