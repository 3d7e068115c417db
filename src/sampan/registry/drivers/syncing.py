"""Waiting for the disk: files and folders that outlast a power failure."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sampan.linux import aio


def sync_folders(folders: Iterable[str]) -> None:
    """Make the names in folders outlast a power failure; raises OSError if one is gone."""
    descriptors: list[int] = []
    try:
        for folder in folders:
            descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    finally:
        sync_and_close(descriptors)


def sync_and_close(descriptors: list[int]) -> None:
    """Make open files outlast a power failure; none stays open."""
    try:
        aio.fsync(descriptors)
    finally:
        while descriptors:
            os.close(descriptors.pop())
