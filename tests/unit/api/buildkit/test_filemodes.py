"""What files are goes to clients and comes back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.buildkit.filemodes import file_of, stat_of
from sampan.build.files.tree import File
from sampan.spec.buildkit.session_pb2 import Stat
from sampan.storage.archives.tar_fields import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    REGULAR,
    SYMLINK,
)

KINDS = [BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, REGULAR, SYMLINK]


@given(
    st.sampled_from(KINDS),
    st.integers(0, 0o7777),
    st.integers(-(2**62), 2**62),
    st.integers(0, 2**40),
    st.dictionaries(st.text("abc.", min_size=1), st.binary()),
)
def test_a_file_comes_back_as_it_went(
    kind: bytes, mode: int, mtime: int, size: int, xattrs: dict[str, bytes]
) -> None:
    link = b"target" if kind == SYMLINK else b""
    size = size if kind == REGULAR else 0
    file = File(kind, mode, mtime=mtime, size=size, link=link, device=(1, 2), xattrs=xattrs)
    assert file_of(stat_of(b"a/b", file)) == file


def test_a_second_name_of_a_file_has_no_content() -> None:
    stat = stat_of(b"b", File(REGULAR, 0o644, size=5), b"a")
    assert (stat.path, stat.linkname, stat.size) == ("b", "a", 0)


@pytest.mark.parametrize("mode", [1 << 24, 1 << 31 | 1 << 27, 1 << 21, 1 << 25 | 1 << 26])
def test_what_archives_do_not_have_is_nothing(mode: int) -> None:
    assert file_of(Stat(path="a", mode=mode)) is None
