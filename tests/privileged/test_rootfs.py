"""The container's root: mounts, devices, masks, and every known way in which they were abused."""

from __future__ import annotations

import os

import pytest

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.runtime.roots import rootfs
from sampan.spec.runtime import (
    LinuxDevice,
    LinuxIDMapping,
    Mount,
    Root,
)
from tests.box import Box, Ended, spec
from tests.session import own_mounts
from tests.specifications import bind, in_user_namespace, with_mounts

pytestmark = pytest.mark.privileged


def table(ended: Ended) -> dict[str, tuple[str, set[str]]]:
    """Return {mount point: (type, options)} of the output of mount(8)."""
    rows = [line.split() for line in ended.lines]
    return {row[2]: (row[4], set(row[5].strip("()").split(","))) for row in rows}


# --- what is there ---------------------------------------------------------------------------


def test_the_default_mounts_have_their_flags(box: Box) -> None:
    found = table(box.shell("mount"))
    assert found["/proc"][0] == "proc"
    assert {"nosuid", "noexec", "nodev"} <= found["/proc"][1]
    assert {"ro", "nosuid", "noexec", "nodev"} <= found["/sys"][1]
    assert {"nosuid", "mode=755", "size=65536k"} <= found["/dev"][1]
    assert "relatime" not in found["/dev"][1]
    assert found["/dev/pts"][0] == "devpts"
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= found["/dev/pts"][1]
    assert found["/dev/mqueue"][0] == "mqueue"
    assert found["/dev/shm"][0] == "tmpfs"
    assert "ro" in found["/sys/fs/cgroup"][1]


def test_no_mount_of_the_host_is_left_inside_and_none_of_ours_outside(box: Box) -> None:
    before = own_mounts()
    inside = box.shell("cut -d' ' -f5 /proc/self/mountinfo").lines
    assert own_mounts() == before
    assert inside.count("/") == 1
    assert not [path for path in inside if not path.startswith(("/proc", "/dev", "/sys"))][1:]


def test_the_root_can_be_a_detached_mount(box: Box) -> None:
    tree = rootfs.clone_root(os.fsencode(box.root))
    try:
        assert box.run(spec("cat", "/etc/passwd"), root=tree).out.startswith("root:")
    finally:
        os.close(tree)


def test_a_read_only_root_refuses_writes_but_its_tmpfs_do_not(box: Box) -> None:
    wanted = spec("sh", "-c", "touch /x; echo y >/dev/shm/x && cat /dev/shm/x")
    wanted.root = Root(readonly=True)
    ended = box.run(wanted)
    assert "Read-only file system" in ended.err
    assert ended.out == "y\n"


def test_the_default_devices_work(box: Box) -> None:
    script = (
        "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' $d; done;"
        "for l in fd stdin stdout stderr ptmx; do readlink $l; done; echo x >null; echo x >full"
    )
    ended = box.shell(script)
    assert ended.lines == [
        *("null 1:3 666", "zero 1:5 666", "full 1:7 666", "random 1:8 666", "urandom 1:9 666"),
        *("tty 5:0 666", "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1"),
        *("/proc/self/fd/2", "pts/ptmx"),
    ]
    assert "No space left" in ended.err


def test_devices_of_the_specification_are_made(box: Box) -> None:
    wanted = spec("sh", "-c", "stat -c '%F %t:%T %a %u:%g' /dev/net/tun /dev/pipe")
    assert wanted.linux is not None
    wanted.linux.devices = [
        LinuxDevice(path="/dev/net/tun", type="c", major=10, minor=200, file_mode=0o600, uid=5),
        LinuxDevice(path="/dev/pipe", type="p", file_mode=0o644),
    ]
    assert box.run(wanted).lines == [
        "character special file a:c8 600 5:0",
        "fifo 0:0 644 0:0",
    ]


def test_masked_paths_are_empty_and_read_only_ones_refuse_writes(box: Box) -> None:
    wanted = spec(
        "sh",
        "-c",
        "cat /secret; ls /hidden; touch /hidden/x; echo 1 >/fixed/f; ls /fixed;"
        "grep -E ' /(hidden|other) ' /proc/self/mountinfo | cut -d' ' -f3 | sort -u | wc -l",
    )
    assert wanted.linux is not None
    for name in ("hidden", "other", "fixed"):
        (box.root / name).mkdir()
        (box.root / name / "f").write_text("content")
    (box.root / "secret").write_text("secret")
    wanted.linux.masked_paths = ["/secret", "/hidden", "/other", "/not/there", "/secret/not"]
    wanted.linux.readonly_paths = ["/fixed", "/not/there"]
    ended = box.run(wanted)
    assert ended.lines == ["f", "1"]  # one superblock serves both directories
    assert ended.err.count("Read-only file system") == 2


def test_binds_of_files_and_folders_appear_with_their_options(box: Box) -> None:
    source = box.scratch / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("from outside\n")
    wanted = with_mounts(
        "cat /new/place; touch /data/x; touch /fixed/x; mount",
        bind(source / "file", "/new/place", "ro", "nosuid"),
        bind(source, "/data", "rw", "noexec"),
        bind(source, "/fixed", "rro"),
    )
    ended = box.run(wanted)
    assert ended.lines[0] == "from outside"
    assert (source / "x").exists()
    assert "touch: /fixed/x: Read-only file system" in ended.err
    found = table(Ended(0, "\n".join(ended.lines[1:]), "", []))
    assert {"ro", "nosuid"} <= found["/new/place"][1]
    assert {"rw", "noexec"} <= found["/data"][1]


def test_a_recursive_read_only_bind_includes_the_mounts_below(box: Box) -> None:
    source = box.scratch / "source"
    (source / "below").mkdir(parents=True)
    m.mount(b"tmpfs", os.fsencode(source / "below"), b"tmpfs", 0)
    try:
        ended = box.run(
            with_mounts(
                "touch /a/below/x; touch /b/below/y; touch /b/y",
                bind(source, "/a", "rro"),
                bind(source, "/b", "ro"),
            )
        )
        assert ended.err.count("Read-only file system") == 2
        assert os.listdir(source / "below") == ["y"]
    finally:
        m.umount2(os.fsencode(source / "below"), m.MNT_DETACH)


def test_a_tmpfs_can_be_filled_from_the_image(box: Box) -> None:
    place = box.root / "filled"
    (place / "sub").mkdir(parents=True)
    (place / "sub/file").write_text("content\n")
    os.chown(place / "sub/file", 7, 8)
    (place / "sub/file").chmod(0o4711)
    (place / "link").symlink_to("/etc/passwd")
    place.chmod(0o710)
    options = ["tmpcopyup", "size=1m", "ro"]
    ended = box.run(
        with_mounts(
            "cd /filled; cat sub/file; readlink link; stat -c '%a %u %g' . sub/file; touch x",
            Mount(destination="/filled", type="tmpfs", source="tmpfs", options=options),
        )
    )
    assert ended.lines == ["content", "/etc/passwd", "710 0 0", "4711 7 8"]
    assert "Read-only file system" in ended.err


def test_an_id_mapped_bind_shows_other_owners(box: Box) -> None:
    source = box.scratch / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 100000, 100000)
    mapping = [LinuxIDMapping(container_id=100000, host_id=0, size=1)]
    mount = bind(source, "/data", "idmap")
    mount.uid_mappings = mount.gid_mappings = mapping
    assert box.run(with_mounts("stat -c '%u %g' /data/file", mount)).out == "0 0\n"


@pytest.mark.parametrize(
    ("option", "tag"), [("rshared", "shared:"), ("rslave", ""), ("rprivate", ""), ("private", "")]
)
def test_binds_get_their_propagation(box: Box, option: str, tag: str) -> None:
    source = box.scratch / "source"
    source.mkdir()
    wanted = with_mounts("grep ' /data ' /proc/self/mountinfo", bind(source, "/data", option))
    fields = box.run(wanted).out.split(" - ")[0].split()[6:]
    assert any(field.startswith("shared:") for field in fields) is bool(tag)


@pytest.mark.parametrize("kind", ["", "private", "rslave", "unbindable"])
def test_the_root_gets_its_propagation(box: Box, kind: str) -> None:
    wanted = spec("sh", "-c", "grep ' / / \\| / ' /proc/self/mountinfo | head -1")
    assert wanted.linux is not None
    wanted.linux.rootfs_propagation = kind
    fields = box.run(wanted).out.split(" - ")[0].split()
    assert fields[4] == "/"
    assert ("unbindable" in fields) is (kind == "unbindable")
    assert not any(field.startswith("shared:") for field in fields)


def test_a_mount_over_the_root_is_refused(box: Box) -> None:
    with pytest.raises(InvalidArgument, match="over the root file system itself"):
        box.run(with_mounts("true", bind(box.scratch, "/")))


def test_an_unknown_file_system_is_refused(box: Box) -> None:
    mount = Mount(destination="/x", type="nosuchfs", source="x")
    with pytest.raises(InvalidArgument, match='error mounting "x" to rootfs at "/x": no such dev'):
        box.run(with_mounts("true", mount))


def test_a_root_that_does_not_exist_is_refused(box: Box) -> None:
    with pytest.raises(InvalidArgument, match="no such file or directory"):
        box.run(spec("true"), root=str(box.scratch / "missing"))


def test_a_container_in_a_user_namespace_has_devices_mounts_and_masks(box: Box) -> None:
    data = box.scratch / "data"
    data.mkdir()
    (box.root / "data").mkdir()
    for path in (data, box.root):
        os.chown(path, 200000, 200000)
    wanted = in_user_namespace(
        with_mounts(
            "id -u; cat /proc/self/uid_map; echo x >/dev/null; touch /data/x; "
            "stat -c %t:%T /dev/zero; cat /proc/timer_list | wc -c; touch /sys/fs/cgroup/x",
            bind(data, "/data"),
        )
    )
    ended = box.run(wanted)
    assert ended.lines[0] == "0"
    assert ended.lines[1].split() == ["0", "200000", "65536"]
    assert ended.lines[2:] == ["1:5", "0"]
    assert (data / "x").stat().st_uid == 200000
    assert ended.err.count("\n") == 1  # only the touch of the read-only cgroup
