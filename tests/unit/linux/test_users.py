"""Rules of "user[:group]"."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.linux import users
from sampan.linux.users import Identity

PASSWD = b"""root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
# comment:x:99:99::/:/bin/sh
+::::::
short:x
1337:x:4242:4242:digits:/digits:/bin/sh
app:x:1000:1000:App,,,:/home/app:/bin/sh
app:x:2000:2000:second:/second:/bin/sh
huge:x:4294967296:0:overflow:/:/bin/sh
big:x:2147483648:0:overflow:/:/bin/sh
word:x:zero:0:not a number:/:/bin/sh
"""
GROUP = b"""root:x:0:
#comment:x:7:app
staff:x:50:app,other
audio:x:29:other,app
app:x:1000:
777:x:888:
nomembers:x:60
wild:x:4294967296:
"""


def resolve(user: str, *additional: str) -> Identity:
    return users.resolve(user, PASSWD, GROUP, additional)


def test_no_user_is_root_with_its_home() -> None:
    assert resolve("") == Identity(0, 0, (0,), "/root")


def test_a_name_brings_its_primary_and_supplementary_groups() -> None:
    assert resolve("app") == Identity(1000, 1000, (1000, 50, 29), "/home/app")


def test_the_primary_group_is_always_among_the_groups() -> None:
    # CVE-2022-36109
    assert 1000 in resolve("app").groups
    assert resolve("app:staff").groups == (50,)
    assert resolve("4711:4712").groups == (4712,)


def test_an_explicit_group_brings_no_supplementary_groups() -> None:
    assert resolve("app:staff") == Identity(1000, 50, (50,), "/home/app")


def test_a_number_is_an_id_and_never_a_name() -> None:
    # CVE-2016-3697
    assert resolve("1337") == Identity(1337, 0, (0,), "/")
    assert resolve("4242") == Identity(4242, 4242, (4242,), "/digits")
    assert resolve("0:777").gid == 777


def test_a_number_with_an_entry_brings_the_groups_of_its_first_name() -> None:
    assert resolve("1000") == Identity(1000, 1000, (1000, 50, 29), "/home/app")


def test_the_first_entry_of_a_name_wins() -> None:
    assert resolve("app").uid == 1000


@pytest.mark.parametrize(
    "user", ["4294967296", "2147483648", "-1", "99999999999999999999999", "0:2147483648", "0:-5"]
)
def test_an_id_out_of_range_is_refused_and_never_wraps_to_root(user: str) -> None:
    # CVE-2024-40635
    with pytest.raises(InvalidArgument, match="uids and gids must be in range 0-2147483647"):
        resolve(user)


@pytest.mark.parametrize("user", ["huge", "big", "0:wild"])
def test_an_entry_out_of_range_is_refused(user: str) -> None:
    with pytest.raises(InvalidArgument, match="uids and gids must be in range"):
        resolve(user)


@pytest.mark.parametrize(
    "user", ["short", "word", "comment", "#comment", "+", "nobody", "root ", "-", "+5"]
)
def test_a_name_without_a_proper_entry_is_unknown(user: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"unable to find user .*: no matching entries in passwd file"
    ):
        resolve(user)


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(
        InvalidArgument, match="unable to find group nix: no matching entries in group file"
    ):
        resolve("app:nix")


def test_additional_groups_are_names_or_ids() -> None:
    assert resolve("app", "audio", "4711", "root").groups == (1000, 50, 29, 4711, 0)
    assert resolve("0:0", "nomembers").groups == (0, 60)


@pytest.mark.parametrize("group", ["nix", "-3", "4294967296"])
def test_a_bad_additional_group_is_refused(group: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve("app", group)


def test_without_files_only_numbers_work() -> None:
    assert users.resolve("5:6", b"", b"") == Identity(5, 6, (6,), "/")
    assert users.resolve("", b"", b"") == Identity()
    with pytest.raises(InvalidArgument):
        users.resolve("root", b"", b"")


def test_more_groups_than_the_kernel_takes_are_refused() -> None:
    group = b"".join(b"g%d:x:%d:app\n" % (n, n) for n in range(65537))
    with pytest.raises(InvalidArgument, match="at most 65536 groups"):
        users.resolve("app", PASSWD, group)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        resolve("\ud800")


@given(st.text(), st.binary(), st.binary(), st.lists(st.text(), max_size=3))
def test_no_input_raises_anything_but_invalid_argument(
    user: str, passwd: bytes, group: bytes, additional: list[str]
) -> None:
    try:
        identity = users.resolve(user, passwd, group, additional)
    except InvalidArgument:
        return
    assert 0 <= identity.uid <= users.MAX_ID
    assert all(0 <= gid <= users.MAX_ID for gid in identity.groups)
    assert identity.gid in identity.groups


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_the_files_are_read_below_the_root(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").write_bytes(PASSWD)
    (tmp_path / "etc/group").write_bytes(GROUP)
    assert users.identify(root, "app", ["audio"]) == Identity(
        1000, 1000, (1000, 50, 29), "/home/app"
    )


def test_a_missing_file_is_empty(root: int) -> None:
    assert users.read(root, "etc/passwd") == b""
    assert users.read(root, "nowhere/passwd") == b""


def test_a_link_out_of_the_root_stays_inside(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").symlink_to("../../../../../../../etc/hostname")
    assert users.read(root, "etc/passwd") == b""
    (tmp_path / "data").write_bytes(b"inside")
    (tmp_path / "etc/group").symlink_to("/data")
    assert users.read(root, "etc/group") == b"inside"


def test_a_magic_link_is_refused(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").symlink_to("loop")
    (tmp_path / "etc/loop").symlink_to("passwd")
    with pytest.raises(InvalidArgument, match="/etc/passwd"):
        users.read(root, "etc/passwd")


def test_a_fifo_neither_blocks_nor_is_read(root: int, tmp_path: Path) -> None:
    # buildah CVE-2024-9675's sibling: a FIFO as passwd hangs the reader
    os.mkfifo(tmp_path / "etc/passwd")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        users.read(root, "etc/passwd")


def test_a_lease_of_a_program_in_the_container_is_not_waited_for(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0\n")
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with open(tmp_path / "etc/passwd", "r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        try:
            with pytest.raises(InvalidArgument, match="open /etc/passwd: resource temporarily"):
                users.identify(root, "root")
        finally:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)


def test_a_directory_is_refused(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/group").mkdir()
    with pytest.raises(InvalidArgument, match="not a regular file"):
        users.read(root, "etc/group")


def test_a_huge_file_is_refused(root: int, tmp_path: Path) -> None:
    # CVE-2026-46680
    with (tmp_path / "etc/group").open("wb") as file:
        file.truncate(users.MAX_FILE_BYTES + 1)
    with pytest.raises(InvalidArgument, match="exceeds 10485760 bytes"):
        users.read(root, "etc/group")
