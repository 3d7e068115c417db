"""What a VolumeKeeper must do, in process and through the storage helper."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from sampan import rpc
from sampan.errors import InvalidArgument, NoSpace, NotFound, Unavailable, Unsupported
from sampan.linux import inotify, mounts, paths
from sampan.rpc import Fd
from sampan.spec.runtime import Mount
from sampan.storage.linux_volume_keeper import LinuxVolumeKeeper
from sampan.storage.volume_keeper import Fill, VolumeKeeper
from tests.session import PATIENCE, eventually, unique

pytestmark = pytest.mark.privileged

TMPFS = Mount(destination="", type="tmpfs", source="tmpfs", options=["size=1m", "mode=1770"])


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VolumeKeeper, Path]]:
    """Run one helper for all tests."""
    place = tmp_path_factory.mktemp("helper")
    arguments = [str(place), "overlay", str(place / "run")]
    sock, process = rpc.start("sampan.helpers.mount", arguments)
    with sock:
        yield rpc.connect(VolumeKeeper, sock, deadline=60), place  # type: ignore[type-abstract]
    assert process.wait(PATIENCE) == 0


@pytest.fixture(params=["library", "helper"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[VolumeKeeper, Path]]:
    """Return a keeper of no volumes, and its root."""
    if request.param == "library":
        library = LinuxVolumeKeeper(tmp_path, tmp_path / "run")
        keeper, place = cast(VolumeKeeper, library), tmp_path
    else:
        library, (keeper, place) = None, request.getfixturevalue("helper")
    yield keeper, place
    for name in os.listdir(place / "volumes"):
        data_of = place / "volumes" / name / "_data"
        while os.path.ismount(data_of):
            mounts.umount2(os.fsencode(data_of), mounts.MNT_DETACH)
        shutil.rmtree(place / "volumes" / name)
    for name in ("run", "root"):
        shutil.rmtree(place / name, ignore_errors=True)
    if library:
        library.close()


@pytest.fixture
def keeper(there: tuple[VolumeKeeper, Path]) -> VolumeKeeper:
    return there[0]


@pytest.fixture
def place(there: tuple[VolumeKeeper, Path]) -> Path:
    return there[1]


@pytest.fixture
def root(place: Path) -> Path:
    """Return the root of a container with all kinds of files."""
    root = place / "root"
    (root / "srv/sub").mkdir(parents=True)
    (root / "srv/file").write_bytes(b"content")
    os.link(root / "srv/file", root / "srv/sub/same")
    os.symlink("/etc/passwd", root / "srv/link")
    os.mkfifo(root / "srv/fifo")
    os.mknod(root / "srv/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chmod(root / "srv/file", 0o4750)
    os.chown(root / "srv/file", 33, 34)
    os.chmod(root / "srv/file", 0o4750)
    os.setxattr(root / "srv/file", "user.note", b"kept")
    os.chown(root / "srv", 1000, 1001)
    os.chmod(root / "srv", 0o2775)
    (root / "empty").mkdir(mode=0o700)
    os.chown(root / "empty", 7, 8)
    os.symlink("/srv", root / "to-srv")
    os.symlink("../../../../etc", root / "out")
    (root / "etc").mkdir()
    (root / "etc/inside").write_bytes(b"")
    return root


def fill(keeper: VolumeKeeper, root: Path, *fills: Fill) -> None:
    with Fd(os.open(root, paths.O_DIRECTORY)) as fd:
        keeper.fill_volumes(fd, list(fills))


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def data(place: Path, name: str = "data") -> Path:
    return place / "volumes" / name / "_data"


def test_a_volume_is_a_folder_that_only_root_reaches(keeper: VolumeKeeper, place: Path) -> None:
    keeper.make_volume("data")
    keeper.make_volume("data")
    assert stat.S_IMODE(data(place).stat().st_mode) == 0o755
    assert stat.S_IMODE((place / "volumes").stat().st_mode) == 0o700
    assert [each.name for each in keeper.volumes()] == ["data"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".trash", "../x", "a\0b", "x" * 300, "ü1"])
def test_what_is_no_name_of_a_volume_is_refused(keeper: VolumeKeeper, name: str) -> None:
    for call in (
        lambda: keeper.make_volume(name),
        lambda: keeper.remove_volume(name),
        lambda: keeper.mount_volume(name, TMPFS),
        lambda: keeper.unmount_volume(name),
    ):
        with pytest.raises(InvalidArgument):
            call()


def test_a_removed_volume_is_gone_at_once_and_its_files_soon(
    keeper: VolumeKeeper, place: Path
) -> None:
    keeper.make_volume("data")
    (data(place) / "file").write_bytes(b"x")
    keeper.remove_volume("data")
    keeper.remove_volume("data")
    assert keeper.volumes() == []
    assert len(os.listdir(place / "volumes/.trash")) == 1
    keeper.collect_volumes()
    assert os.listdir(place / "volumes/.trash") == []


def test_several_may_collect_at_once(keeper: VolumeKeeper, place: Path) -> None:
    for number in range(4):
        keeper.make_volume(f"data{number}")
        for folder in range(40):
            (data(place, f"data{number}") / f"{folder}/below").mkdir(parents=True)
            (data(place, f"data{number}") / f"{folder}/below/file").touch()
        keeper.remove_volume(f"data{number}")
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: keeper.collect_volumes(), range(4)))
    assert done == [None] * 4
    assert os.listdir(place / "volumes/.trash") == []


def test_a_volume_that_was_replaced_by_a_link_leads_nowhere(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    data(place).rmdir()
    data(place).symlink_to(root / "etc")
    with pytest.raises(NotFound):
        keeper.mount_volume("data", TMPFS)
    with pytest.raises(NotFound):
        fill(keeper, root, Fill(volume="data", path="/srv"))
    keeper.remove_volume("data")
    keeper.collect_volumes()
    assert (root / "etc/inside").exists()


# --- mounts --------------------------------------------------------------------------------------


def test_a_file_system_is_mounted_once_and_for_all_to_see(
    keeper: VolumeKeeper, place: Path
) -> None:
    keeper.make_volume("data")
    keeper.mount_volume("data", TMPFS)
    (data(place) / "file").write_bytes(b"x")
    keeper.mount_volume("data", TMPFS)
    assert [(each.name, each.mounted) for each in keeper.volumes()] == [("data", True)]
    assert os.statvfs(data(place)).f_blocks * os.statvfs(data(place)).f_frsize == 1 << 20
    assert stat.S_IMODE(data(place).stat().st_mode) == 0o1770
    keeper.unmount_volume("data")
    keeper.unmount_volume("data")
    assert os.listdir(data(place)) == []


def test_a_folder_of_the_host_is_bound_with_its_options(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    mount = Mount(destination="", type="none", source=str(root), options=["bind", "ro"])
    keeper.mount_volume("data", mount)
    assert (data(place) / "srv/file").read_bytes() == b"content"
    with pytest.raises(OSError, match="Read-only"):
        (data(place) / "x").write_bytes(b"")
    keeper.remove_volume("data")
    keeper.collect_volumes()
    assert (root / "srv/file").exists(), "what is mounted on a volume is not removed with it"


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        (Mount(destination="", type="none", source="/no/such", options=["bind"]), "no such file"),
        (Mount(destination="", type="nosuchfs", source="x"), "no such device"),
        (Mount(destination="", type="tmpfs", source="x", options=["size=lots"]), "invalid argu"),
        (Mount(destination="", type="tmpfs", source="x\0y"), "NUL byte"),
    ],
)
def test_a_mount_that_fails_says_why_and_leaves_nothing(
    keeper: VolumeKeeper, mount: Mount, reason: str
) -> None:
    keeper.make_volume("data")
    with pytest.raises(InvalidArgument, match=reason):
        keeper.mount_volume("data", mount)
    assert not keeper.volumes()[0].mounted


# --- copy-up -------------------------------------------------------------------------------------


def test_an_empty_volume_gets_everything_but_devices(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    fill(keeper, root, Fill(volume="data", path="/srv"))
    into = data(place)
    assert sorted(os.listdir(into)) == ["fifo", "file", "link", "sub"]
    top, file = into.stat(), (into / "file").stat()
    assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (1000, 1001, 0o2775)
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (33, 34, 0o4750)
    assert (file.st_mtime_ns, file.st_nlink) == ((root / "srv/file").stat().st_mtime_ns, 2)
    assert (into / "sub/same").stat().st_ino == file.st_ino
    assert os.getxattr(into / "file", "user.note") == b"kept"
    assert os.readlink(into / "link") == "/etc/passwd"
    assert stat.S_ISFIFO((into / "fifo").stat().st_mode)


def test_a_folder_without_content_gives_its_owner_and_mode(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    fill(keeper, root, Fill(volume="data", path="/empty"))
    status = data(place).stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o700)


def test_a_volume_with_content_stays_as_it_is(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    (data(place) / "mine").write_bytes(b"")
    fill(keeper, root, Fill(volume="data", path="/srv"))
    assert os.listdir(data(place)) == ["mine"]
    assert data(place).stat().st_uid == 0


@pytest.mark.parametrize("path", ["/nothing", "/srv/file", "/srv/file/below", "/srv/fifo"])
def test_what_is_no_folder_fills_nothing(
    keeper: VolumeKeeper, place: Path, root: Path, path: str
) -> None:
    keeper.make_volume("data")
    fill(keeper, root, Fill(volume="data", path=path))
    assert os.listdir(data(place)) == []


@pytest.mark.parametrize(
    ("path", "found"),
    [("/to-srv", ["fifo", "file", "link", "sub"]), ("/out", ["inside"]), ("/..", None)],
)
def test_links_of_an_image_stay_inside_it(
    keeper: VolumeKeeper, place: Path, root: Path, path: str, found: list[str] | None
) -> None:
    keeper.make_volume("data")
    fill(keeper, root, Fill(volume="data", path=path))
    assert sorted(os.listdir(data(place))) == (found or sorted(os.listdir(root)))


def test_a_volume_that_is_mounted_keeps_its_folder(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    before = data(place).stat().st_ino
    fill(keeper, root, Fill(volume="data", path="/srv", in_place=True))
    assert data(place).stat().st_ino == before
    assert (data(place) / "sub/same").read_bytes() == b"content"


@pytest.mark.parametrize("in_place", [False, True])
def test_a_full_disk_leaves_the_volume_empty(
    keeper: VolumeKeeper, place: Path, root: Path, in_place: bool
) -> None:
    keeper.make_volume("data")
    if in_place:
        keeper.mount_volume("data", TMPFS)
    else:
        small = place / "volumes/data"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
        data(place).mkdir()
    try:
        (root / "srv/big").write_bytes(b"x" * (2 << 20))
        with pytest.raises(NoSpace):
            fill(keeper, root, Fill(volume="data", path="/srv"))
        assert os.listdir(data(place)) == []
        assert set(os.listdir(data(place).parent)) == {"_data"}
    finally:
        if not in_place:
            subprocess.run(["umount", place / "volumes/data"], check=True)


def test_what_a_killed_copy_left_is_replaced_by_the_next(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    left = place / "volumes/data/.filling"
    left.mkdir()
    (left / "half").write_bytes(b"")
    fill(keeper, root, Fill(volume="data", path="/srv"))
    assert not left.exists()
    assert not (data(place) / "half").exists()
    assert (data(place) / "file").exists()
    left.mkdir()
    with open_folder(left.parent) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)  # somebody is copying
        keeper.collect_volumes()
        assert left.exists()
    keeper.collect_volumes()
    assert not left.exists()


# --- sizes ---------------------------------------------------------------------------------------


def test_the_use_of_a_volume_is_that_of_its_files(
    keeper: VolumeKeeper, place: Path, root: Path
) -> None:
    keeper.make_volume("data")
    keeper.make_volume("tmp")
    keeper.mount_volume("tmp", TMPFS)
    fill(keeper, root, Fill(volume="data", path="/srv"))
    usage = keeper.volume_usage(["data", "tmp", "none", ""])
    assert set(usage) == {"data", "tmp", ""}
    assert usage["data"].size == len("content") + len("/etc/passwd")
    command = ["du", "-s", "--block-size=1", place / "volumes/data"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True)
    assert usage["data"].allocated == int(listed.stdout.split()[0])
    assert usage["tmp"].size == -1


def test_a_size_without_quotas_is_refused(keeper: VolumeKeeper, place: Path) -> None:
    with pytest.raises(InvalidArgument, match="quota size requested but no quota support"):
        keeper.make_volume("data", 1 << 20)
    assert keeper.volumes() == []


# --- files of the host ---------------------------------------------------------------------------


def test_files_are_told_that_were_replaced(keeper: VolumeKeeper, root: Path) -> None:
    file, other = str(root / "srv/file"), str(root / "srv/sub/same")
    assert (
        keeper.watch_files([str(root / "srv"), "/no/such", "relative", "a\0b", "/dev/null"]) is None
    )
    watch = keeper.watch_files([file, other, str(root)])
    assert watch
    with watch.events:
        assert set(watch.files) == {file, other}
        assert list(inotify.read_events(watch.events.number)) == []
        (root / "srv/new").write_bytes(b"new")
        os.rename(root / "srv/new", file)
        happened = list(inotify.read_events(watch.events.number))
        assert (watch.files[file], b"file") in happened
        assert all(folder != watch.files[other] for folder, _ in happened)


# --- plug-ins ------------------------------------------------------------------------------------


@pytest.fixture
def plugins(place: Path) -> Path:
    folder = place / "run/plugins"
    folder.mkdir(parents=True)
    return folder


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_a_plugin_is_found_by_its_socket(keeper: VolumeKeeper, plugins: Path) -> None:
    (plugins / "second").mkdir()
    for name, path in (("first", "first.sock"), ("second", "second/second.sock")):
        with listening(plugins / path) as server:
            way = keeper.dial_plugin(name)
            assert way.sock
            with socket.socket(fileno=way.sock.detach()) as ours, server.accept()[0] as theirs:
                ours.sendall(b"hello")
                assert theirs.recv(5) == b"hello"
    assert {"first", "second"} <= set(keeper.plugins())


@pytest.mark.parametrize(
    ("file", "content"),
    [("p1.spec", "unix://{}\n"), ("p1.json", '{{"Name": "p1", "Addr": "unix://{}"}}')],
)
def test_a_plugin_is_found_by_its_specification(
    keeper: VolumeKeeper, plugins: Path, file: str, content: str
) -> None:
    place = Path("/var/tmp") / unique()
    (plugins / file).write_text(content.format(place))
    try:
        with listening(place):
            way = keeper.dial_plugin("p1")
            assert way.sock
            way.sock.close()
    finally:
        place.unlink()
    assert "p1" in keeper.plugins()


def test_a_plugin_elsewhere_is_left_to_the_caller(keeper: VolumeKeeper, plugins: Path) -> None:
    (plugins / "far.spec").write_text("tcp://192.0.2.1:8080")
    assert keeper.dial_plugin("far").address == "tcp://192.0.2.1:8080"


def test_a_plugin_that_is_not_there_or_does_not_listen_is_told_apart(
    keeper: VolumeKeeper, plugins: Path
) -> None:
    listening(plugins / "dead.sock").close()
    with pytest.raises(Unavailable, match='plugin "dead" does not answer'):
        keeper.dial_plugin("dead")
    for name in ("none", "../dead", "dead.sock/..", "", "/etc/passwd"):
        with pytest.raises(NotFound):
            keeper.dial_plugin(name)


@pytest.mark.parametrize(
    ("file", "content", "kind"),
    [
        ("bad.json", "{", InvalidArgument),
        ("bad.json", "[]", InvalidArgument),
        ("bad.json", '{"Addr": "https://x", "TLSConfig": {"a": 1}}', Unsupported),
        ("bad.spec", "ftp://x", Unsupported),
        ("bad.spec", "\xff\xfe", InvalidArgument),
    ],
)
def test_a_broken_specification_is_the_administrator_s_error(
    keeper: VolumeKeeper, plugins: Path, file: str, content: str, kind: type[Exception]
) -> None:
    (plugins / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(kind):
        keeper.dial_plugin("bad")


def test_a_plugin_that_takes_long_holds_up_nobody(tmp_path: Path) -> None:
    """A plug-in whose queue is full makes whoever connects wait."""
    server = socket.socket(socket.AF_UNIX)
    plugins = tmp_path / "run/plugins"
    plugins.mkdir(parents=True)
    server.bind(str(plugins / "busy.sock"))
    server.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(plugins / "busy.sock"))
    sock, process = rpc.start(
        "sampan.helpers.mount", [str(tmp_path), "overlay", str(tmp_path / "run")]
    )
    with sock, server, waiting:
        keeper = rpc.connect(VolumeKeeper, sock, deadline=60)  # type: ignore[type-abstract]
        pid = os.fork()
        if not pid:
            try:
                keeper.dial_plugin("busy")
            finally:
                os._exit(0)
        eventually(lambda: Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        assert keeper.volumes() == []
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    process.wait(PATIENCE)
