"""Files and standard input as bodies of requests."""

from __future__ import annotations

import os
from contextlib import contextmanager

from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES = 256 << 10


@contextmanager
def file_pieces(path: str) -> Iterator[Iterator[bytes]]:
    """Open a file, or standard input for `-`, and yield its content piece by piece."""
    if path == "-":
        yield _pieces(0)
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Exit(1, f"open {path}: {(error.strerror or '').lower()}") from None
    try:
        yield _pieces(descriptor)
    finally:
        os.close(descriptor)


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, READ_BYTES):
        yield piece
