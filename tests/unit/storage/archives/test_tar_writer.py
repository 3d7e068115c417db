"""Writing tar archives."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.storage.archives.tar_fields import (
    Entry,
)
from sampan.storage.archives.tar_reader import TarReader
from sampan.storage.archives.tar_writer import TarWriter, file_entry, folder_entry
from tests import tarballs

NAMES = st.binary(min_size=1, max_size=400).filter(
    lambda name: b"\0" not in name and not name.endswith(b"/")
)


def written(*members: tuple[Entry, bytes]) -> bytes:
    out = bytearray()
    writer = TarWriter(out.extend)
    for entry, content in members:
        writer.add(entry, content)
    writer.close()
    return bytes(out)


@settings(deadline=None)
@given(
    name=NAMES,
    link=NAMES,
    mode=st.integers(0, 0o7777),
    owner=st.integers(0, 2**32 - 2),
    mtime=st.integers(0, 2**40),
    value=st.binary(max_size=200),
    kind=st.sampled_from([b"0", b"1", b"2", b"5", b"6"]),
)
def test_what_is_written_is_read_again(
    name: bytes, link: bytes, mode: int, owner: int, mtime: int, value: bytes, kind: bytes
) -> None:
    data = value if kind == b"0" else b""
    entry = Entry(name, kind, mode, owner, owner, len(data), mtime * 10**9, link, 0, 0)
    entry.xattrs = {"user.x": value}
    reader = TarReader([written((entry, data))])
    (again,) = list(reader)
    assert (again.name, again.kind, again.mode, again.link) == (name, kind, mode, link)
    assert (again.uid, again.gid, again.mtime) == (owner, owner, mtime * 10**9)
    assert again.xattrs == {"user.x": value}


def test_another_reader_understands_it() -> None:
    long = "d/" * 120 + "ö"
    content = written(
        (folder_entry("d"), b""), (file_entry(long, 5), b"hello"), (file_entry("z", 0), b"")
    )
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        assert opened.getnames() == ["d", long, "z"]
        found = opened.extractfile(long)
        assert found is not None
        assert found.read() == b"hello"


def test_the_same_members_give_the_same_bytes() -> None:
    members = [(file_entry("a" * 150, 1), b"x"), (file_entry("b", 0, 10**9), b"")]
    assert written(*members) == written(*members)


def test_a_file_that_shrinks_is_filled_with_zeros() -> None:
    fd = tarballs.memory_file(b"abc")
    out = bytearray()
    writer = TarWriter(out.extend)
    with open(fd, "rb", buffering=0):
        writer.add_file(file_entry("f", 10), fd)
    writer.close()
    reader = TarReader([bytes(out)])
    assert [b"".join(map(bytes, reader.data())) for _ in reader] == [b"abc" + bytes(7)]


def test_a_path_that_no_reader_would_take_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="too long"):
        written((file_entry("x/" * 3000 + "y", 0), b""))
