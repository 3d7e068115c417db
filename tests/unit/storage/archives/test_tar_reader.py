"""Reading tar streams strictly."""

from __future__ import annotations

import tarfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.storage.archives import tar_reader
from sampan.storage.archives.tar_fields import (
    Entry,
)
from sampan.storage.archives.tar_reader import TarReader
from tests import tarballs
from tests.tarballs import archive, file, pax, raw


def read(content: bytes, chunk: int = 1 << 16) -> list[tuple[Entry, bytes]]:
    pieces = [content[at : at + chunk] for at in range(0, len(content), chunk)]
    reader = TarReader(pieces)
    return [(entry, b"".join(map(bytes, reader.data()))) for entry in reader]


@pytest.mark.parametrize("chunk", [1, 7, 512, 513, 1 << 20])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_another_writer_are_read_in_pieces_of_any_size(form: int, chunk: int) -> None:
    folder = tarfile.TarInfo("usr/share")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    plain = tarfile.TarInfo("usr/share/doc")
    plain.mtime, plain.uid, plain.gid, plain.mode = 1_700_000_000, 1000, 1001, 0o4755
    link = tarfile.TarInfo("usr/link")
    link.type, link.linkname = tarfile.SYMTYPE, "../target"
    device = tarfile.TarInfo("dev/null")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    content = tarballs.by_tarfile(
        [(folder, b""), (plain, b"x" * 1000), (link, b""), (device, b"")], form
    )
    entries = read(content, chunk)
    assert [entry.name.rstrip(b"/") for entry, _ in entries] == [
        b"usr/share",
        b"usr/share/doc",
        b"usr/link",
        b"dev/null",
    ]
    _, (regular, data), (symlink, _), (null, _) = entries
    assert data == b"x" * 1000
    assert (regular.mode, regular.uid, regular.gid) == (0o4755, 1000, 1001)
    assert regular.mtime == 1_700_000_000 * 10**9
    assert symlink.link == b"../target"
    assert (null.kind, null.major, null.minor) == (b"3", 1, 3)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_links_and_large_ids_are_read(form: int) -> None:
    long = "d/" * 150 + "ünïcode"
    info = tarfile.TarInfo(long)
    info.type, info.linkname, info.uid = tarfile.SYMTYPE, "t" * 300, 3_000_000
    ((entry, _),) = read(tarballs.by_tarfile([(info, b"")], form))
    assert entry.name == long.encode()
    assert entry.link == b"t" * 300
    assert entry.uid == 3_000_000


def test_pax_times_have_nanoseconds_and_pax_attributes_any_bytes() -> None:
    content = archive(
        pax({"mtime": b"1700000000.123456789", "SCHILY.xattr.user.x": b"a\0\n=b"}), file("f")
    )
    ((entry, _),) = read(content)
    assert entry.mtime == 1_700_000_000_123_456_789
    assert entry.xattrs == {"user.x": b"a\0\n=b"}


def test_a_pax_size_stands_above_the_header() -> None:
    content = archive(pax({"size": b"5"}), raw(b"f", b"0", b"hello", size=b"00000000000"))
    assert read(content)[0][1] == b"hello"


def test_gnu_sparse_files_keep_their_holes() -> None:
    head = bytearray(raw(b"s", b"S", b"ab" * 256, size=b"00000001000"))
    head[386:410] = b"%011o\0%011o\0" % (4096, 512)
    head[483:495] = b"%011o\0" % 8192
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head[:512])
    ((entry, data),) = read(archive(bytes(head)))
    assert (entry.kind, entry.size, entry.sparse) == (b"0", 8192, [(4096, 512)])
    assert data == b"ab" * 256


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_pax_sparse_files_keep_their_holes(version: str) -> None:
    major, minor = version.encode().split(b".")
    if version == "1.0":
        data = b"1\n4096\n512\n".ljust(512, b"\0") + b"z" * 512
        records = {
            "GNU.sparse.major": major,
            "GNU.sparse.minor": minor,
            "GNU.sparse.name": b"real",
            "GNU.sparse.realsize": b"8192",
        }
    elif version == "0.1":
        data = b"z" * 512
        records = {"GNU.sparse.size": b"8192", "GNU.sparse.map": b"4096,512"}
    else:
        data = b"z" * 512
        records = {
            "GNU.sparse.size": b"8192",
            "GNU.sparse.offset": b"4096",
            "GNU.sparse.numbytes": b"512",
        }
    ((entry, read_data),) = read(archive(pax(records), raw(b"fake", b"0", data)))
    assert (entry.size, entry.sparse, read_data) == (8192, [(4096, 512)], b"z" * 512)
    assert entry.name == (b"real" if version == "1.0" else b"fake")


def test_a_member_that_is_not_read_is_skipped() -> None:
    reader = TarReader([archive(file("a", b"x" * 5000), file("b", b"y"))])
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_the_padding_of_the_last_member_may_be_missing() -> None:
    """The docker CLI sends such archives for `build -f -`; Go's reader takes them."""
    content = tarballs.file("a", b"1") + tarballs.file("b", b"22")
    reader = TarReader([content[:-510]])
    assert [(entry.name, reader.read_whole(9)) for entry in reader] == [(b"a", b"1"), (b"b", b"22")]


def test_an_empty_stream_and_one_without_end_marker_are_archives() -> None:
    assert read(b"") == []
    assert len(read(file("a"))) == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"x" * 100, id="too short for a header"),
        pytest.param(b"x" * 1024, id="no header"),
        pytest.param(raw(b"f", checksum=b"000000\0 "), id="wrong checksum"),
        pytest.param(raw(b"f", size=b"-0000000001"), id="negative size"),
        pytest.param(raw(b"f", size=b"\xff" * 12), id="negative binary size"),
        pytest.param(raw(b"f", size=b"\x80" + b"\xff" * 11), id="gigantic binary size"),
        pytest.param(raw(b"f", size=b"0x00000000f"), id="size that is no number"),
        pytest.param(raw(b"f", size=b"0000_000_1"), id="size that Python reads"),
        pytest.param(raw(b"f", size=b"00000001000"), id="data missing"),
        pytest.param(raw(b""), id="no name"),
        pytest.param(raw(b"f", uid=b"\x80" + b"\xff" * 7), id="owner out of range"),
        pytest.param(pax({"uid": b"4294967295"}) + raw(b"f"), id="owner that means unchanged"),
        pytest.param(pax({"path": b"a\0b"}) + raw(b"f"), id="zero byte in a name"),
        pytest.param(pax({"path": b"a" * 5000}) + raw(b"f"), id="long name"),
        pytest.param(pax({"linkpath": b"a" * 5000}) + raw(b"f", b"2"), id="long link"),
        pytest.param(raw(b"x", b"x", b"99999 path=a\n") + raw(b"f"), id="record too long"),
        pytest.param(raw(b"x", b"x", b"5 a=b") + raw(b"f"), id="record without newline"),
        pytest.param(raw(b"x", b"x", b"3 \n") + raw(b"f"), id="record without key"),
        pytest.param(raw(b"x", b"x", b"0 a=b\n") + raw(b"f"), id="record of no length"),
        pytest.param(pax({"size": b"-1"}) + raw(b"f"), id="negative size in a record"),
        pytest.param(pax({"mtime": b"nan"}) + raw(b"f"), id="time that is no number"),
        pytest.param(raw(b"x", b"x", b"", size=b"\x80" + b"\0" * 7 + b"\x7f\0\0\0"), id="bomb"),
        pytest.param(pax({"size": b"9" * 18}) + raw(b"f"), id="exabytes"),
        pytest.param(raw(b"x", b"x") * 20 + raw(b"f"), id="headers of headers"),
        pytest.param(pax({"path": b"lonely"}), id="header of nothing"),
        pytest.param(
            pax({"GNU.sparse.size": b"10", "GNU.sparse.map": b"5,9"})
            + raw(b"f", b"0", b"123456789"),
            id="sparse data beyond the end",
        ),
        pytest.param(
            pax({"GNU.sparse.size": b"90", "GNU.sparse.map": b"9,1,0,1"}) + raw(b"f", b"0", b"12"),
            id="sparse data backwards",
        ),
        pytest.param(
            pax({"GNU.sparse.size": b"90", "GNU.sparse.map": b"0,1,2"}) + raw(b"f", b"0", b"1"),
            id="sparse map with a remainder",
        ),
        pytest.param(
            pax({"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.realsize": b"9"})
            + raw(b"f", b"0", b"999999999\n".ljust(512, b"\0")),
            id="sparse map without end",
        ),
    ],
)
def test_a_broken_archive_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read(content)


def test_a_huge_extension_header_is_refused_before_it_is_read() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="too large"):
            read(raw(b"x", b"x", size=b"%011o" % (1 << 30)))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_the_number_of_members_and_of_attributes_has_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tar_reader, "MAX_ENTRIES", 10)
    with pytest.raises(InvalidArgument, match="more than 10 entries"):
        read(archive(*(file(f"f{n}") for n in range(11))))
    many = {f"SCHILY.xattr.user.{n}": b"" for n in range(65)}
    with pytest.raises(InvalidArgument, match="extended attributes"):
        read(archive(pax(many), file("f")))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2048), st.integers(0, 2047), st.integers(0, 255))
def test_no_bytes_make_the_reader_fail_otherwise(noise: bytes, place: int, value: int) -> None:
    content = bytearray(archive(pax({"path": b"name"}), file("f", b"hello"), tarballs.folder("d")))
    content[place % len(content)] = value
    for candidate in (bytes(content), noise, bytes(content[:512]) + noise):
        try:
            read(candidate)
        except InvalidArgument:
            pass
