"""Root's commands in a folder of somebody else are done as that user.

Who owns a folder can put links in the place of its files at any time, and root would follow them;
and what root leaves there its owner could not use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Be the owner of a folder, or of the one that it will be made in, if we are root."""
    found = owner(folder)
    if os.geteuid() or not found.st_uid:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        os.setgroups([found.st_gid])
    except PermissionError:  # root of a container that must not become anybody
        yield
        return
    try:
        os.setegid(found.st_gid)
        os.seteuid(found.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def owner(folder: Path) -> os.stat_result:
    """Return whose a folder is, or will be."""
    for place in (folder, *folder.absolute().parents):
        try:
            return os.stat(place)
        except FileNotFoundError:
            continue
    return os.stat("/")
