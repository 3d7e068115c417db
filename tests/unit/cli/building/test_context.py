"""What is sent as a build context."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from sampan.cli.building.context import Context, open_context
from sampan.cli.invocation import Exit
from tests import tarballs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    for name in ("Dockerfile", "a.py", "b.log", "d/c.py", "d/e.log", "d/f/g"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def sent(context: Context) -> dict[str, bytes]:
    """Return the names that are sent, in order, with contents."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.pieces()))) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            found[member.name] = file.read() if file else member.linkname.encode()
    return found


def names(source: Path, dockerfile: str = "") -> str:
    with open_context(str(source), dockerfile) as context:
        return " ".join(sent(context))


def test_a_folder_is_sent_whole(folder: Path) -> None:
    assert names(folder) == "Dockerfile a.py b.log d d/c.py d/e.log d/f d/f/g"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("*.log", ".dockerignore Dockerfile a.py d d/c.py d/e.log d/f d/f/g"),
        ("**/*.log", ".dockerignore Dockerfile a.py d d/c.py d/f d/f/g"),
        ("d", ".dockerignore Dockerfile a.py b.log"),
        ("d\n!d/f", ".dockerignore Dockerfile a.py b.log d/f d/f/g"),
        ("*\n!a.py", ".dockerignore Dockerfile a.py"),
        ("Dockerfile\n.dockerignore", ".dockerignore Dockerfile a.py b.log d d/c.py d/e.log d/f"
         " d/f/g"),
    ],
)  # fmt: skip
def test_what_the_ignore_file_means_is_left_out(folder: Path, patterns: str, expected: str) -> None:
    (folder / ".dockerignore").write_text(patterns)
    assert names(folder) == expected


def test_an_ignore_file_of_the_dockerfile_goes_first(folder: Path) -> None:
    (folder / ".dockerignore").write_text("*.py")
    (folder / "Dockerfile.dockerignore").write_text("d\n*ignore")
    assert names(folder) == ".dockerignore Dockerfile a.py b.log"


def test_links_are_sent_as_links_and_owners_are_not_sent(folder: Path) -> None:
    os.symlink("/etc/shadow", folder / "link")
    os.mkfifo(folder / "pipe")
    with open_context(str(folder), "") as context:
        archive = b"".join(context.pieces())
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        members = {member.name: member for member in opened}
    assert members["link"].linkname == "/etc/shadow"
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


@pytest.mark.parametrize("given", ["other", "d/other", "absolute"])
def test_another_dockerfile_inside_is_named(folder: Path, given: str) -> None:
    path = folder / ("d/other" if given != "other" else "other")
    path.write_text("FROM x")
    with open_context(str(folder), str(path) if given == "absolute" else given) as context:
        assert context.dockerfile == str(path.relative_to(folder))


def test_a_dockerfile_from_elsewhere_comes_along_hidden(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("FROM x")
    (folder / ".dockerignore").write_text("*.log")
    with open_context(str(folder), str(tmp_path / "elsewhere")) as context:
        files = sent(context)
    assert context.dockerfile.startswith(".dockerfile.")
    assert files[context.dockerfile] == b"FROM x"
    assert files[".dockerignore"] == f"*.log\n{context.dockerfile}\n".encode()
    assert "b.log" not in files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"FROM x\nRUN y\n", {"Dockerfile": b"FROM x\nRUN y\n"}),
        (tarballs.archive(tarballs.file("z", b"1")), {"z": b"1"}),
    ],
    ids=["dockerfile", "archive"],
)
def test_standard_input_is_a_dockerfile_or_an_archive(
    content: bytes, expected: dict[str, bytes]
) -> None:
    kept, fd = os.dup(0), tarballs.memory_file(content)
    os.dup2(fd, 0)
    try:
        with open_context("-", "") as context:
            assert sent(context) == expected
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(fd)


def test_an_address_is_left_to_the_daemon() -> None:
    with open_context("https://host/x.tar", "a/b") as context:
        assert (context.remote, context.dockerfile) == ("https://host/x.tar", "a/b")
        assert list(context.pieces()) == []


def test_a_context_can_be_compressed(folder: Path) -> None:
    with open_context(str(folder), "") as context:
        assert gzip.decompress(b"".join(context.compressed())) == b"".join(context.pieces())


@pytest.mark.parametrize(
    ("source", "dockerfile", "message"),
    [
        ("-", "-", "can't use stdin for both build context and dockerfile"),
        ("nothing", "", 'unable to prepare context: path "{}" not found'),
        ("a.py", "", "unable to prepare context: context must be a directory: {}"),
        ("d", "", "unable to evaluate symlinks in Dockerfile path: lstat {}/Dockerfile: no such"),
    ],
)
def test_what_is_no_context_is_named(
    folder: Path, source: str, dockerfile: str, message: str
) -> None:
    path = source if source == "-" else str(folder / source)
    with pytest.raises(Exit) as raised, open_context(path, dockerfile):
        pass
    assert message.format(path) in raised.value.message


def test_a_file_that_shrinks_while_it_is_read_breaks_nothing(folder: Path) -> None:
    (folder / "big").write_bytes(b"x" * 3_000_000)
    with open_context(str(folder), "") as context:
        pieces = context.pieces()
        first = next(pieces)
        (folder / "big").write_bytes(b"y")
        (folder / "d/c.py").unlink()
        archive = first + b"".join(pieces)
    assert len(tarballs.names(archive)) >= 7
