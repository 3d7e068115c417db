"""Binds whose files belong to the container's user: id-mapped, or given away."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.roots.owning import give_away
from sampan.runtime.starting.user_namespaces import Made, make
from sampan.spec.runtime import Mount, Spec, User
from sampan.storage.idmapped import id_mapped
from tests.box import Box, Ended, spec
from tests.in_range import FIRST, maps

pytestmark = pytest.mark.privileged

ME = 4242  # a user of the host


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of a user of the host, with a file of root in it."""
    folder = tmp_path / "home"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/mine").write_text("mine")
    (folder / "roots").write_text("root's")
    os.chmod(folder / "roots", 0o600)
    for path in (folder, folder / "sub", folder / "sub/mine"):
        os.chown(path, ME, ME)
    return folder


@pytest.fixture
def made() -> Iterator[Made]:
    """A user namespace with a network of its own."""
    namespaces = make(maps(), maps(), network=True)
    yield namespaces
    os.close(namespaces.user)
    os.close(namespaces.network)


def bind(source: Path, *options: str) -> Mount:
    return Mount(destination="/data", type="bind", source=str(source), options=["rbind", *options])


def run(box: Box, mount: Mount, script: str, uid: int = 0, made: Made | None = None) -> Ended:
    """Run a script in a container with one bind, in a user namespace if one is given."""
    wanted: Spec = spec("sh", "-c", script, user=User(uid=uid, gid=uid))
    wanted.mounts.append(mount)
    if made is None:
        return box.run(wanted)
    assert wanted.linux is not None
    wanted.linux.uid_mappings = wanted.linux.gid_mappings = maps()
    root = id_mapped(box.root, made.user)
    try:
        given = {"user_namespace": made.user, "network": made.network}
        return box.run(wanted, root=root, **given)
    finally:
        os.close(root)


def give(path: Path, ids: tuple[int, int]) -> None:
    fd = os.open(path, os.O_PATH)
    give_away(fd, ids)
    os.close(fd)


WRITE = "stat -c %u:%g /data /data/sub/mine; echo new >/data/new && echo more >>/data/sub/mine"


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("private", [False, True])
def test_an_id_mapped_bind_belongs_to_the_containers_user(
    box: Box, home: Path, made: Made, uid: int, private: bool
) -> None:
    ended = run(box, bind(home, "idmap=owner"), WRITE, uid, made if private else None)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [f"{uid}:{uid}"] * 2
    assert ((home / "new").stat().st_uid, (home / "new").stat().st_gid) == (ME, ME)
    assert (home / "sub/mine").read_text() == "minemore\n"


def test_files_of_others_are_nobodys_in_an_id_mapped_bind(box: Box, home: Path) -> None:
    script = "stat -c %u /data/roots; cat /data/roots; chown 5 /data/sub/mine; echo x >/data/roots"
    ended = run(box, bind(home, "idmap=owner"), script)
    assert ended.lines == ["65534"]
    assert ended.err.count("\n") == 3
    assert (home / "roots").read_text() == "root's"


def test_a_set_user_id_file_is_that_of_the_owner(box: Box, home: Path) -> None:
    ended = run(box, bind(home, "idmap=owner"), "cp /bin/busybox /data/su; chmod 4755 /data/su")
    assert ended.code == 0
    status = (home / "su").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (ME, 0o4755)


@pytest.mark.parametrize("private", [False, True])
def test_a_bind_is_given_to_the_containers_user(
    box: Box, home: Path, made: Made, private: bool
) -> None:
    ended = run(box, bind(home, "U"), WRITE, 1000, made if private else None)
    assert (ended.code, ended.lines) == (0, ["1000:1000"] * 2)
    owner = FIRST + 1000 if private else 1000
    for name in (".", "sub", "sub/mine", "roots", "new"):
        assert (home / name).stat().st_uid == owner


def test_an_id_mapped_volume_is_given_away_with_the_ids_of_the_container(
    box: Box, home: Path, made: Made
) -> None:
    ended = run(box, bind(home, "U", "idmap"), WRITE, 1000, made)
    assert (ended.code, ended.lines) == (0, ["1000:1000"] * 2)
    assert (home / "sub/mine").stat().st_uid == 1000


def test_what_is_not_in_the_folder_is_not_given_away(home: Path, tmp_path: Path) -> None:
    outside, other = tmp_path / "outside", tmp_path / "other"
    outside.write_text("")
    other.write_text("")
    (home / "link").symlink_to(outside)
    os.link(other, home / "another-name")
    give(home, (77, 78))
    assert (home / "link").lstat().st_uid == 77
    assert outside.stat().st_uid == other.stat().st_uid == 0


def test_set_user_id_bits_do_not_come_along(home: Path) -> None:
    os.chmod(home / "roots", 0o4755)
    give(home / "roots", (77, 77))
    status = (home / "roots").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (77, 0o755)


@pytest.mark.parametrize("path", ["/", "/etc", "/usr/share", "/var", "/proc/self/cwd/../../../etc"])
def test_the_system_is_not_given_away(box: Box, path: str) -> None:
    with pytest.raises(InvalidArgument, match="is a folder of the system"):
        run(box, bind(Path(path), "U"), "true", 1000)


def test_a_user_that_the_namespace_lacks_is_named(box: Box, home: Path, made: Made) -> None:
    with pytest.raises(InvalidArgument, match="user 70000:70000 does not exist in the user name"):
        run(box, bind(home, "U"), "true", 70000, made)
    assert (home / "sub").stat().st_uid == ME


def test_a_file_system_without_id_maps_is_named(box: Box) -> None:
    # procfs, as any file system of the kernel itself, has none.
    with pytest.raises(InvalidArgument, match=r'cannot map the ids of "/proc/fs" at "/data"'):
        run(box, bind(Path("/proc/fs"), "idmap=owner"), "true")
