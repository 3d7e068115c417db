"""What the files of a container refuse to a copy: said to the client, not to our log.

A path may lead behind /proc, or be exchanged by the container while we work on it: that is no
fault of ours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sampan.errors import InvalidArgument, NotFound
from sampan.storage.archives.packing import ABSENT

#: What is wrong with the host or with us, whatever the container does.
OURS: Final = frozenset(
    (
        *(errno.EBADF, errno.EFAULT, errno.EIO, errno.EMFILE, errno.ENFILE),
        *(errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EPIPE),
    )
)


@contextmanager
def refusals_of(path: str) -> Iterator[None]:
    """Raise NotFound or InvalidArgument instead of the OSError of a path in a container."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        if not number or number in OURS:
            raise
        if number == errno.EROFS:
            raise InvalidArgument("container rootfs is marked read-only") from error
        if number in ABSENT:
            raise NotFound(f"Could not find the file {path}") from error
        raise InvalidArgument(f"{path}: {os.strerror(number).lower()}") from error
