"""The contract of the storage helper for what one start of a container gets and no disk ever has.

The secrets of a build and its way to an SSH agent live in file systems of their own in memory. Each
is a detached mount without a name: it is gone when the last process that uses it has ended, also
when everybody else was killed.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from sampan.rpc import Fd

LARGEST: Final = 500 << 10  # bytes of a file. Source: buildkit secretsprovider.go, MaxSecretSize
NAME: Final = "lent"  # of the one file in a mount


class Listener(msgspec.Struct, kw_only=True):
    """A socket that others find by its place."""

    tree: Fd  # the mount that it lies in
    sock: Fd  # listens

    def close(self) -> None:
        """Close both."""
        self.tree.close()
        self.sock.close()


class Lender(Protocol):
    """Lends files in memory. It is served beside `Mounter`, by the same helper.

    Modes have nine bits, ids are those of the host; InvalidArgument for others.
    """

    def lend_file(self, content: Fd, mode: int, uid: int, gid: int) -> Fd:
        """Return a detached, read-only mount with one file, NAME, of this content (a file).

        InvalidArgument for more than LARGEST bytes.
        """

    def lend_socket(self, mode: int, uid: int, gid: int) -> Listener:
        """Return a detached mount with one Unix socket, NAME, and the socket itself."""
