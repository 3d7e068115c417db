"""The members of an archive: their names, and whose fault it is when one cannot be written."""

from __future__ import annotations

import errno
import os
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux.namespaces import in_user_namespace

MAX_DEPTH: Final = 400  # components of a name
_OURS: Final = frozenset(  # errors that the archive cannot be blamed for
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)


def entry_parts(name: bytes) -> list[bytes]:
    """Return the components of a member's name, relative to the root; empty for the root itself.

    A name that climbs out of the root is InvalidArgument.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidArgument(f'invalid entry name "{os.fsdecode(name)}"')
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    if len(parts) > MAX_DEPTH:
        raise InvalidArgument("a member of the archive lies too deep")
    return parts


def blamed(error: OSError, name: bytes) -> Exception:
    """Return what is raised for the failure of one entry: the archive's fault, or the error."""
    if error.errno in _OURS:
        return error
    reason = os.strerror(error.errno or 0).lower()
    if error.errno == errno.EINVAL and in_user_namespace():
        reason += " (its owner may be none of the ids of this user namespace: see subuid(5))"
    return InvalidArgument(f"{os.fsdecode(name[:256])}: {reason}")
