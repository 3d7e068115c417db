"""Files of git repositories, from a real git server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.repositories import archive_of
from sampan.errors import InvalidArgument, NotFound, Upstream
from sampan.spec.build import Repository
from tests import tarballs
from tests.session import eventually

pytestmark = pytest.mark.slow
WHO = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=main"]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *WHO, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a repository with two commits, a branch and a tag; return its address."""
    root = tmp_path_factory.mktemp("git")
    work = root / "work"
    work.mkdir()
    git(work, "init", "-q")
    (work / "sub").mkdir()
    (work / "a").write_text("first")
    (work / "sub/b").write_text("$Format:%H$")
    (work / ".gitattributes").write_text("a export-ignore\nsub/b export-subst\n* filter=evil\n")
    os.symlink("/etc/passwd", work / "link")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "first")
    git(work, "tag", "v1")
    (work / "a").write_text("second")
    git(work, "commit", "-qam", "second")
    git(work, "branch", "other")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = subprocess.Popen(
        ["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={root}"]
        + ["--listen=127.0.0.1", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def answers() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers)
        yield f"git://127.0.0.1:{port}/work"
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait()


def archive(url: str, ref: str = "", folder: str = "") -> bytes:
    def read(fd: int) -> bytes:
        return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))

    return asyncio.run(archive_of(Repository(url=url, ref=ref, folder=folder), read))


def test_a_commit_is_packed_as_it_is(server: str) -> None:
    content = archive(server)
    assert tarballs.names(content) == [".gitattributes", "a", "link", "sub", "sub/b"]
    assert b"second" in content
    assert b"$Format:%H$" in content


def test_branches_tags_and_folders_are_found(server: str) -> None:
    assert b"first" in archive(server, "v1")
    assert b"second" in archive(server, "other")
    assert tarballs.names(archive(server, folder="sub")) == ["b"]


@pytest.mark.parametrize(
    ("ref", "folder", "error"),
    [("none", "", NotFound), ("", "none", InvalidArgument), ("f" * 40, "", NotFound)],
)
def test_what_is_not_there_is_named(
    server: str, ref: str, folder: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=ref or folder):
        archive(server, ref, folder)


@pytest.mark.parametrize("url", ["git://127.0.0.1:1/x", "ext::sh -c true", "file:///", "/tmp"])
def test_servers_that_do_not_answer_and_other_protocols_are_refused(url: str) -> None:
    with pytest.raises(Upstream, match="git fetch"):
        archive(url)
