"""Files that are mounted into containers, whose programs may do what they like with them."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NotFound
from sampan.runtime.folder import Folders

HOSTS = b"127.0.0.1 localhost\n10.0.0.2 other\n"


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    Folders(tmp_path, os.getgid()).make("one", {"hosts": HOSTS}, 0)
    return tmp_path / "one" / "hosts"


@pytest.fixture
def folders(hosts: Path) -> Folders:
    return Folders(hosts.parent.parent, os.getgid())


def test_lines_are_exchanged_in_place(folders: Folders, hosts: Path) -> None:
    inode = hosts.stat().st_ino
    assert folders.edit("one", "hosts", ["10.0.0.2 other"], ["10.0.0.3 other"])
    assert hosts.read_bytes() == HOSTS.replace(b".2", b".3")
    assert hosts.stat().st_ino == inode
    assert not folders.edit("one", "hosts", ["10.0.0.2 other"], ["x"])


def test_a_lease_of_a_program_in_the_container_holds_up_nobody(
    folders: Folders, hosts: Path
) -> None:
    """The kernel has whoever opens such a file wait for 45 seconds, unless told not to."""
    with open(hosts, "r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # "give it back", which we do not
        try:
            assert not folders.edit("one", "hosts", ["10.0.0.2 other"], ["10.0.0.3 other"])
        finally:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)
    assert hosts.read_bytes() == HOSTS


def test_a_link_in_the_place_of_a_file_is_not_followed(folders: Folders, hosts: Path) -> None:
    target = hosts.with_name("target")
    hosts.rename(target)
    hosts.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        folders.edit("one", "hosts", ["10.0.0.2 other"], [])
    assert target.read_bytes() == HOSTS


def test_a_file_that_is_not_there_and_a_name_that_is_a_path_are_refused(folders: Folders) -> None:
    with pytest.raises(NotFound):
        folders.edit("one", "resolv.conf", [], ["x"])
    with pytest.raises(InvalidArgument):
        folders.edit("one", "../one/hosts", [], ["x"])
