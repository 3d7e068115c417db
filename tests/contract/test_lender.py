"""What a Lender must do, in process and through the storage helper."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan import rpc
from sampan.errors import InvalidArgument
from sampan.linux import mounts
from sampan.rpc import Fd
from sampan.storage.lender import LARGEST, NAME, Lender
from sampan.storage.linux_lender import LinuxLender
from tests.session import PATIENCE

pytestmark = pytest.mark.privileged


@pytest.fixture(params=["library", "helper"])
def lender(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lender]:
    if request.param == "library":
        yield LinuxLender()
        return
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        yield rpc.connect(Lender, sock, deadline=60)  # type: ignore[type-abstract]
    assert process.wait(PATIENCE) == 0


def content(data: bytes) -> Fd:
    file = os.memfd_create("content")
    os.write(file, data)
    return Fd(file)


@pytest.mark.parametrize("data", [b"", b"secret\n", b"\0" * LARGEST])
def test_a_file_is_alone_in_memory(lender: Lender, data: bytes) -> None:
    with content(data) as lent, lender.lend_file(lent, 0o440, 5, 6) as tree:
        with Fd(os.open(".", os.O_RDONLY, dir_fd=tree.number)) as folder:
            assert os.listdir(folder.number) == [NAME]
        file = os.open(NAME, os.O_RDONLY, dir_fd=tree.number)
        with open(file, "rb") as opened:
            assert opened.read() == data
        status = os.stat(NAME, dir_fd=tree.number)
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o440, 5, 6)
        assert mounts.filesystem_magic(tree.number) == 0x01021994  # TMPFS_MAGIC, linux/magic.h


def test_a_file_cannot_be_changed_nor_another_be_made(lender: Lender) -> None:
    with content(b"x") as lent, lender.lend_file(lent, 0o600, 0, 0) as tree:
        for name, flags in ((NAME, os.O_WRONLY), ("other", os.O_WRONLY | os.O_CREAT)):
            with pytest.raises(OSError, match="Read-only file system"):
                os.open(name, flags, dir_fd=tree.number)
        flags = os.fstatvfs(tree.number).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        assert flags & os.ST_NOEXEC


def test_a_socket_is_found_by_its_place(lender: Lender) -> None:
    listener = lender.lend_socket(0o606, 7, 8)
    with listener.tree as tree, listener.sock as sock:
        status = os.stat(NAME, dir_fd=tree.number)
        assert (status.st_mode, status.st_uid, status.st_gid) == (stat.S_IFSOCK | 0o606, 7, 8)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{tree.number}/{NAME}")
            listening = socket.socket(fileno=os.dup(sock.number))
            with listening, listening.accept()[0] as connection:
                connection.send(b"x")
                assert client.recv(10) == b"x"


def test_nothing_is_left_when_nobody_has_it(lender: Lender) -> None:
    listener = lender.lend_socket(0o600, 0, 0)
    name = f"/{NAME}\n"
    listener.close()
    with content(b"x") as lent:
        lender.lend_file(lent, 0o600, 0, 0).close()
    assert name not in Path("/proc/net/unix").read_text()
    assert "lent" not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize(
    ("mode", "uid", "gid"),
    [(0o1000, 0, 0), (-1, 0, 0), (0o600, -1, 0), (0o600, 0, (1 << 32) - 1), (0o600, 1 << 32, 0)],
)
def test_impossible_owners_and_modes_are_refused(
    lender: Lender, mode: int, uid: int, gid: int
) -> None:
    with content(b"x") as lent, pytest.raises(InvalidArgument, match="invalid"):
        lender.lend_file(lent, mode, uid, gid)
    with pytest.raises(InvalidArgument, match="invalid"):
        lender.lend_socket(mode, uid, gid)


def test_what_is_too_large_is_refused(lender: Lender) -> None:
    with (
        content(b"\0" * (LARGEST + 1)) as lent,
        pytest.raises(InvalidArgument, match="a secret has more than 512000 bytes"),
    ):
        lender.lend_file(lent, 0o600, 0, 0)
