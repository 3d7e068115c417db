"""A layer gives the archive that it came from again, byte for byte, whatever it was."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.rpc import Fd
from sampan.storage.archives import recording
from sampan.storage.layers import checking
from sampan.storage.linux_mounter import LinuxMounter
from tests import tarballs
from tests.layers import add
from tests.tarballs import END, archive, file, folder, hardlink, pax, raw, symlink

pytestmark = pytest.mark.privileged

BASE = archive(
    folder("lib"), file("lib/x", b"below" * 10), file("f", b"old"), symlink("way", "lib")
)


@pytest.fixture(params=["overlay", "vfs"])
def mounter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LinuxMounter]:
    mounter = LinuxMounter(tmp_path, request.param)
    yield mounter
    mounter.close()


@pytest.fixture(scope="module", params=["overlay", "vfs"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LinuxMounter]:
    """A mounter with a layer, for many examples."""
    mounter = LinuxMounter(tmp_path_factory.mktemp("shared"), request.param)
    add(mounter, BASE, tarballs.chain(BASE))
    yield mounter
    mounter.close()


def packed(mounter: LinuxMounter, chain: str) -> bytes:
    fd = os.memfd_create("layer")
    try:
        mounter.pack_layer(chain, Fd(fd))
        return tarballs.contents(fd)
    finally:
        os.close(fd)


def check(mounter: LinuxMounter, content: bytes, parent: str | None = None) -> str:
    """Unpack an archive, and see that it comes out again."""
    chain = tarballs.chain(content)
    if parent:
        chain = tarballs.digest(f"{parent} {tarballs.digest(content)}".encode())
    add(mounter, content, chain, parent)
    assert packed(mounter, chain) == content
    assert mounter.verify(chain) == []
    return chain


def recipe_of(mounter: LinuxMounter, chain: str) -> Path:
    snapshot = mounter._store.get(chain)
    return mounter._store.path(snapshot) / "recipe"


# --- any archive ---------------------------------------------------------------------------

NAMES = ["a", "b", "./a", "/a/c", "a/b", "d/../a", "lib/x", "way/x", "lib", "way", "f", "deep/e/f"]
names = st.sampled_from(NAMES)
contents = st.binary(max_size=40) | st.sampled_from([b"x" * 512, b"y" * 1500])


def long_name(name: str, member: bytes) -> bytes:
    return raw(b"././@LongLink", b"L", name.encode() + b"\0") + member


def old_sparse(name: str, data: bytes) -> bytes:
    head = bytearray(raw(name.encode(), b"S", data))
    head[386:410] = b"%011o\0%011o\0" % (1000, len(data))
    head[483:495] = b"%011o\0" % 5000
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head)


def pax_sparse(name: str, data: bytes) -> bytes:
    records = {"GNU.sparse.size": b"9000", "GNU.sparse.map": b"100,%d" % len(data)}
    return pax(records) + file(name, data)


def new_sparse(name: str, data: bytes) -> bytes:
    pieces = b"1\n4096\n%d\n" % len(data)
    records = {"major": b"1", "minor": b"0", "name": name.encode(), "realsize": b"8192"}
    head = pax({f"GNU.sparse.{key}": value for key, value in records.items()})
    return head + file("GNUSparseFile.0/x", pieces.ljust(512, b"\0") + data)


members = st.one_of(
    st.builds(file, names, contents, st.sampled_from([0o644, 0o4755, 0])),
    st.builds(folder, names.map(lambda name: name + "/")),
    st.builds(folder, names),
    st.builds(symlink, names, names),
    st.builds(hardlink, names, names),
    st.builds(lambda name: raw(name.encode(), b"6"), names),
    st.builds(lambda name, data: raw(name.encode(), b"\0", data), names, contents),
    st.builds(lambda name: raw(name.encode(), b"3", device=(1, 3)), names),
    st.builds(lambda name, data: file(f"{name}/.wh.b", data), names, contents),
    st.builds(lambda name: file(f".wh.{name.strip('./').split('/')[0]}"), names),
    st.builds(lambda name: file(f"{name}/.wh..wh..opq"), names),
    st.builds(lambda data: file(".wh..wh.plnk", data), contents),
    st.builds(lambda name: pax({"mtime": b"1.5", "comment": b"\n"}) + file(name), names),
    st.builds(lambda name, data: long_name(name, file("short", data)), names, contents),
    st.builds(lambda data: raw(b"pax_global", b"g", tarballs.pax_record("x", data)), contents),
    st.builds(lambda data: file("./", data), contents.filter(lambda data: not data)),
    st.builds(old_sparse, names, contents.filter(bool)),
    st.builds(pax_sparse, names, contents.filter(bool)),
    st.builds(new_sparse, names, contents.filter(bool)),
)
endings = st.sampled_from([END, b"", bytes(512), bytes(10240), END + b"garbage" * 100])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(members, max_size=12), endings, st.booleans())
def test_every_archive_that_unpacks_comes_out_again(
    shared: LinuxMounter, parts: list[bytes], end: bytes, on_base: bool
) -> None:
    content = b"".join(parts) + end
    parent = tarballs.chain(BASE) if on_base else None
    chain = tarballs.chain(BASE, content) if on_base else tarballs.chain(content)
    if content == BASE:
        return
    try:
        add(shared, content, chain, parent)
    except InvalidArgument:
        return
    assert packed(shared, chain) == content
    assert shared.verify(chain) == []
    assert not (recipe_of(shared, chain).parent / "lost").exists()
    shared.remove(chain)


def test_what_is_replaced_is_kept(mounter: LinuxMounter) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    content = archive(
        *(file("same", b"%d" % n * 100) for n in range(10)),
        folder("d"),
        file("d/e", b"in a folder that goes" * 100),
        hardlink("kept", "d/e"),
        file("d", b"a file now"),
        file("way/y", b"through a link of the parent"),
        symlink("w", "d2"),
        folder("d2"),
        file("w/f", b"through a link"),
        file("w", b"which goes"),
        folder("way"),
        file("one", b"two names"),
        hardlink("two", "one"),
        file("one", b"other"),
        file("two", b"and other"),
    )
    chain = check(mounter, content, tarballs.chain(BASE))
    with mounter.mount(chain) as fd:
        assert Path(f"/proc/self/fd/{fd.number}/same").read_bytes() == b"9" * 100


def test_what_is_not_written_is_kept(mounter: LinuxMounter) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    attributes = {"SCHILY.xattr.security.selinux": b"label", "SCHILY.xattr.trusted.x": b"1"}
    content = archive(
        pax({**attributes, "unknown.key": b"value"}) + file("f", b"x"),
        file(".wh.lib", b"a whiteout with content" * 1000),
        file(".wh..wh.plnk", b"book-keeping" * 200_000),
        raw(b"x", b"2", link=b"target", size=b"00000000000"),
    )
    check(mounter, content + b"trailing garbage" + bytes(1000), tarballs.chain(BASE))


def test_large_files_and_files_across_chunks(mounter: LinuxMounter) -> None:
    content = archive(
        *(file(f"f{n}", os.urandom(n * 70_001)) for n in range(30)),
        file("large", b"large" * 1_000_000),
    )
    check(mounter, content)


@pytest.mark.parametrize("limit", [0, 2])
def test_an_archive_that_moves_too_many_files_is_refused(
    mounter: LinuxMounter, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(recording, "_MOVED", limit)
    content = archive(folder("d"), symlink("w", "d"), file("w/x", b"1"), file("w", b"2"))
    if limit:
        check(mounter, content)
        return
    with pytest.raises(InvalidArgument, match="replaces too much"):
        add(mounter, content, tarballs.chain(content))
    assert mounter.snapshots() == []


# --- other writers ---------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with everything that travels in archives."""
    top = tmp_path / "tree"
    (top / "deep" / ("d" * 90) / ("e" * 90)).mkdir(parents=True)
    (top / "deep" / ("d" * 90) / ("e" * 90) / "ünï").write_bytes(b"long name")
    (top / "file").write_bytes(os.urandom(3000))
    os.link(top / "file", top / "hard")
    os.symlink("x" * 200, top / "long-link")
    os.mkfifo(top / "fifo")
    os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(top / "file", 3_000_000, 3_000_000)
    os.setxattr(top / "file", "user.kind", b"text")
    with (top / "sparse").open("wb") as out:
        for at in range(0, 40 << 20, 1 << 20):
            out.seek(at)
            out.write(b"data at %d" % at)
        out.truncate(50 << 20)
    return top


WRITERS = {
    "gnu": ["tar", "--format=gnu"],
    "gnu sparse": ["tar", "--format=gnu", "--sparse"],
    "posix": ["tar", "--format=posix", "--xattrs"],
    "posix sparse": ["tar", "--format=posix", "--sparse"],
    "sparse 0.0": ["tar", "--format=posix", "--sparse", "--sparse-version=0.0"],
    "sparse 0.1": ["tar", "--format=posix", "--sparse", "--sparse-version=0.1"],
    "sparse 1.0": ["tar", "--format=posix", "--sparse", "--sparse-version=1.0"],
    "blocking": ["tar", "--format=gnu", "--blocking-factor=64"],
    "bsdtar pax": ["bsdtar", "--format=pax"],
    "bsdtar gnu": ["bsdtar", "--format=gnutar"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_archives_of_other_writers_come_out_again(
    mounter: LinuxMounter, tree: Path, name: str
) -> None:
    program, *options = WRITERS[name]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *options, "-C", tree, "-cf", "-", "."], capture_output=True)
    assert done.stdout, done.stderr
    check(mounter, done.stdout)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_pythons_writer_come_out_again(mounter: LinuxMounter, form: int) -> None:
    big = tarfile.TarInfo("usr/share/x")
    big.uid, big.mtime = 1000, 1_700_000_000.25  # type: ignore[assignment]
    if form == tarfile.USTAR_FORMAT:
        big.mtime = 1
    check(mounter, tarballs.by_tarfile([(big, b"x" * 5000)], form))


def test_what_a_container_changed_comes_out_again(mounter: LinuxMounter) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    mounter.prepare("box", tarballs.chain(BASE))
    with mounter.mount("box") as fd:
        root = Path(f"/proc/self/fd/{fd.number}")
        (root / "lib/x").write_bytes(b"changed")
        (root / "f").unlink()
        (root / "new").write_bytes(b"new")
        os.link(root / "new", root / "newer")
    out = os.memfd_create("diff")
    mounter.diff("box", Fd(out))
    check(mounter, tarballs.contents(out), tarballs.chain(BASE))
    os.close(out)


# --- what has been tampered with -----------------------------------------------------------------

LAYER = archive(folder("d"), file("d/one", b"1" * 1000), file("d/two", b"2" * 3_000_000), file("x"))


@pytest.fixture
def layer(mounter: LinuxMounter) -> Path:
    """The tree of a layer."""
    add(mounter, LAYER, tarballs.chain(LAYER))
    return recipe_of(mounter, tarballs.chain(LAYER)).parent / "fs"


def test_tampering_with_files_is_found(mounter: LinuxMounter, layer: Path) -> None:
    chain = tarballs.chain(LAYER)
    assert mounter.verify(chain) == []
    (layer / "d/one").write_bytes(b"3" * 1000)
    problem, time = mounter.verify(chain)
    assert f"expected {tarballs.digest(LAYER)}" in problem
    assert time == f"layer {chain}: /d/one: has another time"
    with pytest.raises(InvalidArgument, match="has the digest"):
        packed(mounter, chain)
    (layer / "d/one").write_bytes(b"3" * 999)
    (layer / "d/two").unlink()
    assert mounter.verify(chain) == [
        f"layer {chain}: /d/one: has another size",
        f"layer {chain}: /d/two: no such file or directory",
    ]
    (layer / "d/two").write_bytes(b"2" * 3_000_000)
    with pytest.raises(InvalidArgument, match="shorter than it was"):
        packed(mounter, chain)
    (layer / "d/two").unlink()
    os.mkfifo(layer / "d/two")
    (layer / "d/one").write_bytes(b"1" * 1000)
    with pytest.raises(InvalidArgument, match="no regular file"):
        packed(mounter, chain)


def test_changed_attributes_are_found(mounter: LinuxMounter, tmp_path: Path) -> None:
    content = archive(
        *(file(name, b"x") for name in ("mode", "owner", "time", "kind")),
        folder("d"),
        symlink("link", "mode"),
        raw(b"device", b"3", device=(1, 3)),
        hardlink("hard", "mode"),
    )
    chain = check(mounter, content)
    tree = recipe_of(mounter, chain).parent / "fs"
    os.chmod(tree / "mode", 0o4755)
    os.chown(tree / "owner", 1, 1)
    os.utime(tree / "time")
    os.chmod(tree / "d", 0o777)
    os.unlink(tree / "link")
    os.symlink("elsewhere", tree / "link")
    os.unlink(tree / "device")
    os.mknod(tree / "device", stat.S_IFCHR | 0o644, os.makedev(1, 5))
    (tree / "d/new").touch()
    strangers = ["/d/new: is not in the archive"] if mounter.layers_stand_alone() else []
    assert mounter.verify(chain) == [
        f"layer {chain}: {problem}"
        for problem in (
            "/mode: has the mode 4755, not 0644",
            "/owner: has another owner",
            "/time: has another time",
            "/d: has the mode 0777, not 0755",
            "/link: leads elsewhere",
            "/device: is another device",
            *strangers,
        )
    ]


def test_very_large_layers_are_checked_by_content_only(
    mounter: LinuxMounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "MOST", 3)
    content = archive(*(file(f"f{n}", b"%d" % n) for n in range(5)))
    chain = check(mounter, content)
    tree = recipe_of(mounter, chain).parent / "fs"
    os.chmod(tree / "f1", 0o4755)
    assert mounter.verify(chain) == []
    (tree / "f2").write_bytes(b"x")
    assert len(mounter.verify(chain)) == 1


def test_links_in_a_layer_lead_nowhere_outside(
    mounter: LinuxMounter, layer: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "one").write_bytes(b"1" * 1000)
    shutil.rmtree(layer / "d")
    os.symlink(outside, layer / "d")
    with pytest.raises(InvalidArgument, match="no such file"):
        packed(mounter, tarballs.chain(LAYER))
    os.unlink(layer / "d")
    (layer / "d").mkdir()
    os.symlink(outside / "one", layer / "d/one")
    with pytest.raises(InvalidArgument, match="too many levels"):
        packed(mounter, tarballs.chain(LAYER))


RECORD = Struct("<BIHQ").pack
MAGIC = b"sampan-recipe-1\n"


@pytest.mark.parametrize(
    "plain",
    [
        b"no recipe at all",
        MAGIC,
        MAGIC + RECORD(7, 0, 0, 0),
        MAGIC + RECORD(0, 1 << 30, 0, 0),
        MAGIC + RECORD(0, 0, 0, 1000),
        MAGIC + RECORD(0, 0, 5000, 1000) + b"p" * 5000,
        MAGIC + RECORD(0, 0, 3, 1000) + b"a\0b",
        MAGIC + RECORD(0, 0, 5, 1 << 62) + b"d/one",
        MAGIC + RECORD(0, 0, 5, 1000) + b"d/one" + RECORD(2, 0, 0, 0) + b"more",
        MAGIC + RECORD(0, 0, 11, 1000) + b"../../../..",
        MAGIC + RECORD(0, 0, 15, 1000) + b"../../etc/group" + RECORD(2, 0, 0, 0),
        MAGIC + RECORD(1, 0, 5, 1000) + b"d/one" + b"\xff\xff\xff\xff",
        MAGIC + RECORD(1, 0, 5, 8) + b"d/one" + b"\1\0\0\0" + b"\xff" * 8 + b"\x08" + bytes(7),
        MAGIC + RECORD(1, 0, 5, 9) + b"d/one" + b"\1\0\0\0" + bytes(8) + b"\x08" + bytes(7),
        MAGIC + b"".join(RECORD(0, 9, 5, 1000) + bytes(9) + b"d/one" for _ in range(5000)),
        MAGIC + RECORD(2, 0, 0, 0),
    ],
)
def test_a_hostile_recipe_is_an_error(mounter: LinuxMounter, layer: Path, plain: bytes) -> None:
    chain = tarballs.chain(LAYER)
    recipe_of(mounter, chain).write_bytes(zstandard.compress(plain))
    with pytest.raises(InvalidArgument):
        packed(mounter, chain)
    assert len(mounter.verify(chain)) == 1


@pytest.mark.parametrize("at", [0, 10, 60, -1])
def test_a_broken_recipe_is_an_error(mounter: LinuxMounter, layer: Path, at: int) -> None:
    path = recipe_of(mounter, tarballs.chain(LAYER))
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(InvalidArgument):
        packed(mounter, tarballs.chain(LAYER))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidArgument):
        packed(mounter, tarballs.chain(LAYER))


def test_a_layer_without_a_recipe_says_so(mounter: LinuxMounter, layer: Path) -> None:
    chain = tarballs.chain(LAYER)
    recipe_of(mounter, chain).unlink()
    with pytest.raises(NotFound, match="has no recipe"):
        packed(mounter, chain)
    assert mounter.verify(chain) == [f"layer {chain} has no recipe"]
    assert mounter.verify("sha256:" + "0" * 64) == [f"snapshot sha256:{'0' * 64} does not exist"]


def test_a_reader_that_goes_away_ends_it(mounter: LinuxMounter, layer: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(Unavailable):
        mounter.pack_layer(tarballs.chain(LAYER), Fd(write))
    os.close(write)


def test_containers_are_no_layers(mounter: LinuxMounter) -> None:
    mounter.prepare("box", None)
    with pytest.raises(InvalidArgument, match="is no layer"):
        packed(mounter, "box")
