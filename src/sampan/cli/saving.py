"""Writing what the daemon sends to a file, complete or not at all, or to standard output."""

from __future__ import annotations

import os

from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.invocation import Invocation
    from sampan.client.connection import Response


def save(cli: Invocation, path: str, failure: str, open_source: Callable[[], Response]) -> int:
    """Copy a body to `path`, or to standard output if that is empty and no terminal.

    A file is written beside its place and renamed, so a failure leaves what was there.
    """
    if not path:
        if cli.out.is_terminal():
            raise Exit(1, "cowardly refusing to save to a terminal. Use the -o flag or redirect")
        cli.out.copy(open_source().pieces())
        return 0
    import tempfile

    folder = os.path.dirname(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise Exit(1, f"{failure}: cannot write to {path}: not a regular file")
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    except OSError as error:
        raise Exit(
            1, f"{failure}: invalid output path: {folder}: {(error.strerror or '').lower()}"
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in open_source().pieces():
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return 0
