"""What a storage driver does for a container in a user namespace: nothing is copied or chowned."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan import rpc
from sampan.errors import InvalidArgument, NotFound
from sampan.rpc import Fd
from sampan.runtime.starting.user_namespaces import make
from sampan.spec.runtime import LinuxIDMapping
from sampan.storage import choosing
from sampan.storage.drivers.overlay import OverlayDriver
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.mounter import ExtractOptions, Mounter
from tests import tarballs
from tests.filesystems import Shop, kernel_has
from tests.in_range import FIRST, SIZE, inside, user_namespace
from tests.layers import add
from tests.session import PATIENCE
from tests.tarballs import archive, file, folder, raw

pytestmark = pytest.mark.privileged

BASE = archive(folder("d"), raw(b"d/of5", data=b"x", uid=b"0000005"), file("old", b"y"))
ABOVE = archive(folder("d"), file("d/second", b"2"))
VARIANTS = ["overlay", "overlay-by-text", "overlay@btrfs", "overlay@xfs", "vfs", "btrfs@btrfs"]


@pytest.fixture(params=[*VARIANTS, "helper"])
def mounter(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    filesystems: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Mounter]:
    """A mounter with a container called box, on two layers."""
    name, _, kind = request.param.partition("@")
    if kind and not kernel_has(kind):
        pytest.skip(f"this kernel has no {kind}")
    if name == "helper":
        sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
        with sock:
            yield _filled(rpc.connect(Mounter, sock, deadline=60))
        assert process.wait(PATIENCE) == 0
        return
    if name == "overlay-by-text":
        monkeypatch.setitem(choosing.DRIVERS, "overlay", lambda root: OverlayDriver(root, "text"))
        name = "overlay"
    with filesystems.folder(kind) if kind else contextlib.nullcontext(tmp_path) as root:
        library = LinuxMounter(root, name)
        yield _filled(library)
        library.close()


def _filled(mounter: Mounter) -> Mounter:
    add(mounter, BASE, tarballs.chain(BASE))
    add(mounter, ABOVE, tarballs.chain(BASE, ABOVE), tarballs.chain(BASE))
    mounter.prepare("box", tarballs.chain(BASE, ABOVE))
    return mounter


def test_files_are_shown_shifted_and_stored_unshifted(mounter: Mounter) -> None:
    with user_namespace() as user, mounter.mount("box", user=user) as root:
        seen = [os.stat(name, dir_fd=root.number) for name in ("d", "d/of5", "d/second")]
        assert [each.st_uid for each in seen] == [FIRST, FIRST + 5, FIRST]
        listed = inside(user, root.number, "stat -c %u:%g d/of5; touch new; chown 7:8 new")
        assert listed == "5:0\n"
        assert os.stat("new", dir_fd=root.number).st_uid == FIRST + 7
    assert mounter.stat("box", "/new").size == 0
    packed = tarballs.names(_packed(mounter, "/new"))
    assert packed == ["new"]
    with mounter.mount("box") as root:
        status = os.stat("new", dir_fd=root.number)
        assert (status.st_uid, status.st_gid) == (7, 8)


def test_whatever_a_container_does_to_files_is_a_change_as_ever(mounter: Mounter) -> None:
    script = "chown 9 d/second; rm old; rm -r d; mkdir d; cp /bin/true d/own; chmod 4755 d/own"
    with user_namespace() as user, mounter.mount("box", user=user) as root:
        inside(user, root.number, script)
    changes = {change.path: change.kind for change in mounter.changes("box")}
    assert changes.pop("/d/own") == 1
    assert changes.pop("/old") == 2
    assert changes == {"/d": 0, "/d/of5": 2, "/d/second": 2}
    with mounter.mount("box") as root:
        status = os.stat("d/own", dir_fd=root.number)
        assert (status.st_uid, status.st_gid, status.st_mode) == (0, 0, 0o104755)


def test_one_container_after_the_other_has_the_same_files_in_ranges_of_its_own(
    mounter: Mounter,
) -> None:
    mounter.prepare("other", tarballs.chain(BASE, ABOVE))
    with (
        user_namespace() as one,
        user_namespace(FIRST + SIZE) as two,
        mounter.mount("box", user=one) as ours,
        mounter.mount("other", user=two) as theirs,
    ):
        inside(one, ours.number, "echo a >d/of5; umask 077; echo secret >mine")
        inside(two, theirs.number, "echo bb >d/of5; umask 077; echo secret >mine")
        # The root of one range is nobody to the files of the other, should it ever get at them.
        with pytest.raises(AssertionError, match="denied"):
            inside(one, theirs.number, "cat mine")
        assert os.stat("d/of5", dir_fd=theirs.number).st_uid == FIRST + SIZE + 5


def test_a_file_capability_holds_inside_and_is_kept_as_the_image_has_it(mounter: Mounter) -> None:
    with user_namespace() as user, mounter.mount("box", user=user) as root:
        script = "cp /bin/true tool; setcap cap_net_raw+ep tool; getcap tool"
        assert "cap_net_raw=ep" in inside(user, root.number, script)
    with mounter.mount("box") as root:
        value = os.getxattr(f"/proc/self/fd/{root.number}/tool", "security.capability")
    assert value[3] == 2  # VFS_CAP_REVISION_2: for no user namespace in particular


def test_copies_into_a_running_container_are_made_as_its_root(mounter: Mounter) -> None:
    content = archive(file("in", b"x"), raw(b"of9", data=b"y", uid=b"0000011"))
    fd, into = tarballs.memory_file(content), os.memfd_create("out")
    with (
        Fd(fd),
        Fd(into),
        user_namespace() as user,
        mounter.mount("box", user=user) as root,
    ):
        mounter.extract("box", "/d", Fd(fd), ExtractOptions(), root, user)
        assert mounter.stat("box", "/d/of9", root, user).size == 1
        assert os.stat("d/of9", dir_fd=root.number).st_uid == FIRST + 9
        mounter.pack("box", "/d/of9", Fd(into), root, user)
        head = tarballs.contents(into)
        assert int(head[108:115], 8) == 9
        with pytest.raises(NotFound):
            mounter.stat("box", "/nothing", root, user)


def test_a_range_without_root_is_refused(mounter: Mounter) -> None:
    ids = [LinuxIDMapping(container_id=1, host_id=FIRST, size=5)]
    made = make(ids, ids)
    with Fd(made.user) as user:
        if mounter.driver().name == "overlay":
            with pytest.raises(InvalidArgument, match="map its user and group 0"):
                mounter.mount("box", user=user)
        else:
            mounter.mount("box", user=user).close()


def _packed(mounter: Mounter, path: str) -> bytes:
    with Fd(os.memfd_create("packed")) as into:
        mounter.pack("box", path, into)
        return tarballs.contents(into.number)
