"""What a Mounter must do, in process and through the storage helper."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from sampan import rpc
from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.linux import capabilities
from sampan.rpc import Fd
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.mounter import ExtractOptions, Mounter
from tests import tarballs
from tests.layers import add
from tests.session import PATIENCE, eventually
from tests.tarballs import archive, file, folder, symlink

pytestmark = pytest.mark.privileged

BASE = archive(
    folder("etc"),
    file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n"),
    file("etc/group", b"root:x:0:\nwww:x:35:\n"),
    folder("data"),
    file("data/one", b"1"),
    folder("data/sub"),
    file("data/sub/two", b"22", 0o4755),
    symlink("abs", "/data"),
    symlink("rel", "data/one"),
    symlink("up", "../../../../etc"),
    symlink("broken", "nowhere/at/all"),
    symlink("loop", "loop"),
)


@pytest.fixture(params=["library", "helper"])
def mounter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounter]:
    if request.param == "library":
        library = LinuxMounter(tmp_path)
        yield library
        library.close()
        return
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        yield rpc.connect(Mounter, sock, deadline=60)
    assert process.wait(PATIENCE) == 0


@pytest.fixture
def box(mounter: Mounter) -> Mounter:
    """A mounter with a container called box."""
    unpack(mounter, BASE)
    mounter.prepare("box", tarballs.chain(BASE))
    return mounter


def unpack(mounter: Mounter, content: bytes, *, packed: bytes | None = None) -> str:
    unpacked = add(mounter, packed or content, tarballs.chain(content))
    assert unpacked.diff_id == tarballs.digest(content)
    assert unpacked.plain_size == len(content)
    return unpacked.diff_id


def packed(mounter: Mounter, path: str) -> bytes:
    fd = os.memfd_create("packed")
    try:
        mounter.pack("box", path, Fd(fd))
        return tarballs.contents(fd)
    finally:
        os.close(fd)


def extract(
    mounter: Mounter, path: str, content: bytes, options: ExtractOptions | None = None
) -> None:
    fd = tarballs.memory_file(content)
    try:
        mounter.extract("box", path, Fd(fd), options or ExtractOptions())
    finally:
        os.close(fd)


KEPT: list[int] = []


def kept(fd: int) -> int:
    """Have a descriptor closed when the test has ended."""
    KEPT.append(fd)
    return fd


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while KEPT:
        os.close(KEPT.pop())


def mounted(mounter: Mounter) -> Path:
    """Return a path to the container's root, good until the test's end."""
    return Path(f"/proc/self/fd/{kept(mounter.mount('box').detach())}")


# --- layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress, bz2.compress])
def test_a_layer_may_be_compressed(mounter: Mounter, compress: Callable[[bytes], bytes]) -> None:
    unpack(mounter, BASE, packed=compress(BASE))
    assert [info.kind for info in mounter.snapshots()] == ["committed"]


def test_a_layer_comes_through_a_pipe(mounter: Mounter) -> None:
    read, write = os.pipe()
    content = archive(file("big", os.urandom(1 << 20)))

    def send() -> None:
        with open(write, "wb") as file:
            file.write(content)

    sender = threading.Thread(target=send)
    sender.start()
    unpacked = mounter.unpack(Fd(kept(read)), "staged-x")
    sender.join()
    assert (unpacked.size, unpacked.entries) == (1 << 20, 1)


def test_unpacking_a_layer_again_changes_nothing(mounter: Mounter) -> None:
    unpack(mounter, BASE)
    fd = kept(tarballs.memory_file(b"not read at all"))
    with pytest.raises(NotFound):
        mounter.commit("staged-x", "sha256:" + "0" * 64, None)
    mounter.commit("staged-x", tarballs.chain(BASE), None)
    staged = kept(tarballs.memory_file(BASE))
    mounter.unpack(Fd(staged), "staged-x")
    again = mounter.unpack(Fd(fd), "staged-x")
    assert (again.diff_id, again.entries) == (tarballs.digest(BASE), 12)
    mounter.commit("staged-x", tarballs.chain(BASE), None)
    assert [info.kind for info in mounter.snapshots()] == ["committed"]


def test_a_layer_that_is_not_what_it_is_called_leaves_nothing(
    mounter: Mounter, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="does not make the chain id"):
        add(mounter, BASE, "sha256:" + "0" * 64)
    with pytest.raises(InvalidArgument, match="another name than its chain id"):
        mounter.unpack(Fd(kept(tarballs.memory_file(BASE))), "sha256:" + "0" * 64)
    assert mounter.snapshots() == []
    for left in (".new", ".trash"):
        folder = tmp_path / "snapshots/overlay" / left
        eventually(lambda folder=folder: not any(folder.iterdir()))


# --- stat ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "mode", "size", "target"),
    [
        ("/data/one", "one", 0o644, 1, ""),
        ("data/one", "one", 0o644, 1, ""),
        ("/data/../data/./one", "one", 0o644, 1, ""),
        ("/data/sub/two", "two", 1 << 23 | 0o755, 2, ""),
        ("/data", "data", 1 << 31 | 0o755, None, ""),
        ("/data/", "data", 1 << 31 | 0o755, None, ""),
        ("/data/.", ".", 1 << 31 | 0o755, None, ""),
        ("/", "/", 1 << 31 | 0o755, None, ""),
        ("/abs", "abs", 1 << 27 | 0o777, 5, "/data"),
        ("/abs/", "abs", 1 << 31 | 0o755, None, ""),
        ("/abs/one", "one", 0o644, 1, ""),
        ("/rel", "rel", 1 << 27 | 0o777, 8, "/data/one"),
        ("/up", "up", 1 << 27 | 0o777, 15, "/etc"),
        ("/up/passwd", "passwd", 0o644, None, ""),
        ("/broken", "broken", 1 << 27 | 0o777, 14, "/nowhere/at/all"),
        ("/loop", "loop", 1 << 27 | 0o777, 4, "/loop"),
    ],
)
def test_stat_is_what_the_header_of_docker_cp_says(
    box: Mounter, path: str, name: str, mode: int, size: int | None, target: str
) -> None:
    status = box.stat("box", path)
    assert (status.name, status.mode, status.link_target) == (name, mode, target)
    assert size is None or status.size == size
    body = msgspec.json.decode(msgspec.json.encode(status))
    assert set(body) == {"name", "size", "mode", "mtime", "linkTarget"}


@pytest.mark.parametrize("path", ["/nothing", "/data/one/", "/data/one/x", "/broken/", "/loop/x"])
def test_what_is_not_there_is_not_found(box: Mounter, path: str) -> None:
    with pytest.raises(NotFound, match="Could not find the file"):
        box.stat("box", path)
    with pytest.raises(NotFound, match="Could not find the file"):
        packed(box, path)


def test_a_path_with_a_zero_byte_is_refused(box: Mounter) -> None:
    with pytest.raises(InvalidArgument):
        box.stat("box", "/etc/passwd\0.txt")


# --- pack ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/data/one", ["one"]),
        ("/data/sub", ["sub", "sub/two"]),
        ("/data/sub/", ["sub", "sub/two"]),
        ("/data/sub/.", [".", "./two"]),
        ("/abs", ["abs"]),
        ("/abs/", ["abs", "abs/one", "abs/sub", "abs/sub/two"]),
        ("/rel", ["rel"]),
        ("/up/group", ["group"]),
    ],
)
def test_a_copy_out_has_the_names_that_docker_cp_expects(
    box: Mounter, path: str, names: list[str]
) -> None:
    assert tarballs.names(packed(box, path)) == names


def test_an_export_has_names_without_a_leading_slash(box: Mounter) -> None:
    names = tarballs.names(packed(box, ""))
    assert names[:5] == [".dockerenv", "abs", "broken", "data", "data/one"]


def test_an_export_can_be_imported(box: Mounter) -> None:
    content = packed(box, "")
    unpack(box, content)
    box.prepare("again", tarballs.chain(content))
    assert box.stat("again", "/data/sub/two").mode == 1 << 23 | 0o755


def test_a_reader_that_goes_away_ends_the_copy(box: Mounter) -> None:
    extract(box, "/data", archive(file("big", bytes(4 << 20))))
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(Unavailable):
        box.pack("box", "/data", Fd(write))
    os.close(write)
    assert box.stat("box", "/data").name == "data"


# --- extract -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zstandard.compress, bz2.compress, lzma.compress]
)
def test_a_copy_in_may_be_compressed(box: Mounter, compress: Callable[[bytes], bytes]) -> None:
    extract(box, "/data", compress(archive(file("new", b"x"))))
    assert box.stat("box", "/data/new").size == 1


@pytest.mark.parametrize("path", ["/abs", "/abs/", "/abs/.", "abs", "/up/../data"])
def test_a_copy_in_follows_links_to_its_folder(box: Mounter, path: str) -> None:
    extract(box, path, archive(file("new", b"x")))
    assert box.stat("box", "/data/new").size == 1


def test_a_copy_in_through_a_link_stays_in_the_container(box: Mounter) -> None:
    extract(box, "/up", archive(file("sampan-test-intruder", b"x")))
    assert box.stat("box", "/etc/sampan-test-intruder").size == 1
    assert not Path("/etc/sampan-test-intruder").exists()


def test_the_folder_of_a_copy_in_must_be_one(box: Mounter) -> None:
    with pytest.raises(InvalidArgument, match="extraction point is not a directory"):
        extract(box, "/data/one", archive(file("x")))
    with pytest.raises(NotFound):
        extract(box, "/nothing", archive(file("x")))


def test_folders_and_files_replace_one_another_unless_that_is_forbidden(box: Mounter) -> None:
    strict = ExtractOptions(no_overwrite_dir_non_dir=True)
    with pytest.raises(InvalidArgument, match='cannot overwrite directory "sub" with non-director'):
        extract(box, "/data", archive(file("sub")), strict)
    with pytest.raises(InvalidArgument, match='cannot overwrite non-directory "one/" with direct'):
        extract(box, "/data", archive(folder("one/")), strict)
    extract(box, "/data", archive(file("sub", b"now a file"), folder("one")))
    assert box.stat("box", "/data/sub").size == 10
    assert box.stat("box", "/data/one").mode == 1 << 31 | 0o755


def test_a_copy_in_keeps_what_is_already_in_a_folder(box: Mounter) -> None:
    extract(box, "/", archive(folder("data", 0o700), file("data/new")))
    assert box.stat("box", "/data/one").size == 1
    assert box.stat("box", "/data").mode == 1 << 31 | 0o700


@pytest.mark.parametrize(
    ("user", "owner"), [("web", (33, 34)), ("7", (7, 0)), ("web:www", (33, 35)), ("", (0, 0))]
)
def test_files_may_be_given_to_the_containers_user(
    box: Mounter, user: str, owner: tuple[int, int]
) -> None:
    options = ExtractOptions(copy_uid_gid=True, user=user)
    extract(box, "/data", archive(folder("d"), file("d/f")), options)
    root = mounted(box)
    for path in ("data/d", "data/d/f"):
        status = (root / path).stat()
        assert (status.st_uid, status.st_gid) == owner


def test_whiteouts_in_a_copy_are_ordinary_files(box: Mounter) -> None:
    extract(box, "/data", archive(file(".wh.one", b"x")))
    assert box.stat("box", "/data/.wh.one").size == 1
    assert box.stat("box", "/data/one").size == 1


def test_devices_and_pipes_are_copied(box: Mounter) -> None:
    extract(
        box,
        "/data",
        archive(tarballs.raw(b"null", b"3", device=(1, 3)), tarballs.raw(b"pipe", b"6")),
    )
    assert box.stat("box", "/data/null").mode == 1 << 26 | 1 << 21 | 0o644
    assert box.stat("box", "/data/pipe").mode == 1 << 25 | 0o644
    assert tarballs.names(packed(box, "/data"))[1:3] == ["data/null", "data/one"]


def test_a_root_that_is_given_stands_for_the_container(box: Mounter, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "folder").mkdir(parents=True)
    (other / "folder/file").write_text("x")
    root = kept(os.open(other, os.O_PATH | os.O_DIRECTORY))
    archive_fd = kept(tarballs.memory_file(archive(file("new", b"y"))))
    out = kept(os.memfd_create("out"))
    box.extract("box", "/folder", Fd(archive_fd), ExtractOptions(), Fd(root))
    box.pack("box", "/folder", Fd(out), Fd(root))
    assert box.stat("box", "/folder/file", Fd(root)).size == 1
    assert tarballs.names(tarballs.contents(out)) == ["folder", "folder/file", "folder/new"]
    with pytest.raises(InvalidArgument, match="no directory"):
        box.stat("box", "/", Fd(archive_fd))


# --- the helper itself ---------------------------------------------------------------------


def test_long_calls_do_not_hold_up_short_ones(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        read, write = os.pipe()
        results: list[str] = []
        slow = threading.Thread(
            target=lambda: results.append(mounter.unpack(Fd(read), "staged-x").diff_id)
        )
        slow.start()
        mounter.prepare("box", None)
        mounter.remove("box")
        assert results == []
        os.write(write, BASE)
        os.close(write)
        slow.join()
        os.close(read)
        assert results == [tarballs.digest(BASE)]
    assert process.wait(PATIENCE) == 0


def test_the_helper_has_no_more_capabilities_than_it_needs(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        rpc.connect(Mounter, sock, deadline=60).snapshots()
        status = Path(f"/proc/{process.pid}/status").read_text()
        held = {
            line.partition(":")[0]: int(line.split()[1], 16)
            for line in status.splitlines()
            if line.startswith("Cap")
        }
        allowed, _ = capabilities.bits(
            ["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
            + ["CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"]
        )
        assert held["CapPrm"] == held["CapEff"] == held["CapBnd"] == allowed
        assert held["CapInh"] == held["CapAmb"] == 0
    assert process.wait(PATIENCE) == 0


def test_a_helper_that_was_killed_leaves_only_what_the_next_one_clears(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        unpack(mounter, BASE)
        process.kill()
        process.wait()
    left = tmp_path / "snapshots/overlay/.new/half-done/fs"
    left.mkdir(parents=True)
    mounter = LinuxMounter(tmp_path)
    assert [info.key for info in mounter.snapshots()] == [tarballs.chain(BASE)]
    mounter.close()
    assert list((tmp_path / "snapshots/overlay/.new").iterdir()) == []
    assert list((tmp_path / "snapshots/overlay/.trash").iterdir()) == []


def test_removed_snapshots_are_deleted_in_the_background(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    trash = tmp_path / "snapshots/overlay/.trash"
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        for _ in range(3):
            mounter.prepare("box", None)
            mounter.remove("box")
        eventually(lambda: not any(trash.iterdir()))
    assert process.wait(PATIENCE) == 0


def test_hostile_packets_do_not_stop_the_helper(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        for packet in (b"i\xc1", b"i", b"x" * 100, b"i" + bytes(1000), b"m", b"i\xa1\xff"):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                socket.send_fds(sock, [packet], [theirs.fileno()])
        mounter = rpc.connect(Mounter, sock, deadline=60)
        with pytest.raises(InvalidArgument):
            mounter.prepare("../../etc", None)
        assert mounter.snapshots() == []
    assert process.wait(PATIENCE) == 0


def test_the_snapshots_folder_is_closed_to_others(mounter: Mounter, tmp_path: Path) -> None:
    mounter.prepare("box", None)
    assert stat.S_IMODE((tmp_path / "snapshots").stat().st_mode) == 0o700
