"""tmpcopyup: filling a new tmpfs, or a new volume, with what the image has at its place."""

from __future__ import annotations

import os

from sampan.linux import trees


def copy(source: int, target: int) -> None:
    """Copy a directory tree between descriptors; follows no link, copies no device."""
    above = os.open(b".", trees.DIRECTORY, dir_fd=source)
    try:
        below = os.open(b".", trees.DIRECTORY, dir_fd=target)
        try:
            trees.copy(above, below, devices=False)
        finally:
            os.close(below)
    finally:
        os.close(above)


def fill(source: int, target: int) -> None:
    """Copy a directory tree into a directory, unless there is something in it already."""
    folder = os.open(b".", trees.DIRECTORY, dir_fd=target)
    try:
        if not os.listdir(folder):
            copy(source, target)
    finally:
        os.close(folder)
