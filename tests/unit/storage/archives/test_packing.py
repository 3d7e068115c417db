"""Paths and modes as Docker's clients see them."""

from __future__ import annotations

import stat

import pytest

from sampan.storage.archives.packing import base, clean, go_mode


@pytest.mark.parametrize(
    ("path", "whole", "last"),
    [
        (b"", b"/", b"/"),
        (b"/", b"/", b"/"),
        (b".", b"/.", b"."),
        (b"a", b"/a", b"a"),
        (b"/a/", b"/a/", b"a"),
        (b"/a/.", b"/a/.", b"."),
        (b"/a//b/../c", b"/a/c", b"c"),
        (b"../../etc", b"/etc", b"etc"),
        (b"/a/..", b"/", b"/"),
        (b"//", b"/", b"/"),
    ],
)
def test_paths_are_cleaned_as_go_does_and_keep_what_cp_asks_by(
    path: bytes, whole: bytes, last: bytes
) -> None:
    assert clean(path) == whole
    assert base(clean(path)) == last


@pytest.mark.parametrize(
    ("mode", "go"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFREG | 0o4755, 1 << 23 | 0o755),
        (stat.S_IFREG | 0o2755, 1 << 22 | 0o755),
        (stat.S_IFDIR | 0o1777, 1 << 31 | 1 << 20 | 0o777),
        (stat.S_IFLNK | 0o777, 1 << 27 | 0o777),
        (stat.S_IFCHR | 0o666, 1 << 26 | 1 << 21 | 0o666),
        (stat.S_IFBLK | 0o660, 1 << 26 | 0o660),
        (stat.S_IFIFO | 0o600, 1 << 25 | 0o600),
        (stat.S_IFSOCK | 0o755, 1 << 24 | 0o755),
    ],
)
def test_modes_are_gos(mode: int, go: int) -> None:
    assert go_mode(mode) == go
