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

    complaint = _complaint(path)
    if complaint:
        raise Exit(1, f"{failure}: {complaint}")
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=".tmp-", dir=os.path.dirname(os.path.abspath(path))
        )
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Exit(1, f"{failure}: open {path}: {reason}") from None
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


def _complaint(path: str) -> str:
    """Return what docker says about a place that cannot be written to; nothing if it can."""
    import stat

    folder = os.path.dirname(path)
    try:
        if folder and not stat.S_ISDIR(os.stat(folder).st_mode):
            return f"invalid output path: stat {folder}: not a directory"
    except OSError as error:
        return f"invalid output path: stat {folder}: {(error.strerror or '').lower()}"
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link directly",
        stat.S_IFIFO: "a named pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device file",
        stat.S_IFBLK: "a block device file",
    }
    kind = kinds.get(stat.S_IFMT(mode), "")
    return f"cannot write to {kind}" if kind else ""
