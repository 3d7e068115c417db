"""Full disks, said as what they are."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sampan.errors import NoSpace


@contextmanager
def told_when_full() -> Iterator[None]:
    """Raise NoSpace instead of the OSError of a full disk or an exhausted quota."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("no space left on device") from error
        raise
