"""Archives from a container stay below the directory they are unpacked in."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from sampan.cli.copying.packing import pack
from sampan.cli.copying.paths import Place
from sampan.cli.copying.unpacking import PiecesFile, unpack
from sampan.cli.invocation import Exit


def archive(*members: tarfile.TarInfo, content: bytes = b"") -> PiecesFile:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return PiecesFile([buffer.getvalue()])


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def test_a_name_that_leads_upwards_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(Exit, match="leads out"):
        unpack(archive(member("../evil"), content=b"x"), str(inside), "", "")
    assert not (tmp_path / "evil").exists()


def test_an_absolute_name_is_taken_below_the_directory(tmp_path: Path) -> None:
    unpack(archive(member("/etc/passwd"), content=b"x"), str(tmp_path), "", "")
    assert (tmp_path / "etc/passwd").read_bytes() == b"x"


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    hostile = archive(
        member("link", tarfile.SYMTYPE, str(outside)), member("link/file"), content=b"x"
    )
    with pytest.raises(Exit, match="cannot unpack link/file"):
        unpack(hostile, str(inside), "", "")
    assert list(outside.iterdir()) == []


def test_a_link_that_is_there_is_replaced_not_followed(tmp_path: Path) -> None:
    inside, target = tmp_path / "in", tmp_path / "target"
    inside.mkdir()
    target.write_text("mine")
    (inside / "file").symlink_to(target)
    unpack(archive(member("file"), content=b"theirs"), str(inside), "", "")
    assert target.read_text() == "mine"
    assert (inside / "file").read_text() == "theirs"


def test_a_hard_link_cannot_name_a_file_outside(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_text("s")
    with pytest.raises(Exit, match="leads out"):
        unpack(archive(member("x", tarfile.LNKTYPE, "../secret")), str(inside), "", "")
    (inside / "way").symlink_to(tmp_path)
    with pytest.raises(Exit, match="cannot unpack"):
        unpack(archive(member("x", tarfile.LNKTYPE, "way/secret")), str(inside), "", "")


def test_devices_are_left_out(tmp_path: Path) -> None:
    left_out = unpack(archive(member("null", tarfile.CHRTYPE)), str(tmp_path), "", "")
    assert left_out == ["null"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_and_a_file_do_not_replace_each_other(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("")
    with pytest.raises(Exit, match="cannot overwrite directory"):
        unpack(archive(member("d")), str(tmp_path), "", "")
    with pytest.raises(Exit, match="cannot overwrite non-directory"):
        unpack(archive(member("f", tarfile.DIRTYPE)), str(tmp_path), "", "")


def test_a_broken_archive_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(Exit, match="broken"):
        unpack(PiecesFile([b"x" * 2000]), str(tmp_path), "", "")


def test_what_is_packed_is_unpacked_the_same_under_another_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_bytes(os.urandom(70_000))
    (source / "sub/file").chmod(0o640)
    (source / "link").symlink_to("sub/file")
    os.link(source / "sub/file", source / "twin")
    (source / "sub").chmod(0o700)
    target = tmp_path / "target"
    target.mkdir()
    pieces = pack(Place(str(source), True, True), "source", "copy")
    assert unpack(PiecesFile(pieces), str(target), "", "") == []
    copy = target / "copy"
    assert (copy / "sub/file").read_bytes() == (source / "sub/file").read_bytes()
    assert (copy / "link").readlink() == Path("sub/file")
    assert (copy / "twin").stat().st_ino == (copy / "sub/file").stat().st_ino
    assert (copy / "sub").stat().st_mode & 0o777 == 0o700
    assert (copy / "sub/file").stat().st_mode & 0o777 == 0o640
    assert int((copy / "sub").stat().st_mtime) == int((source / "sub").stat().st_mtime)
