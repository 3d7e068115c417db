"""The container's root: mounts, devices, masks, and every known way in which they were abused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.linux.capabilities import all_names
from sampan.runtime import rootfs
from sampan.spec.runtime import (
    LinuxCapabilities,
    LinuxDevice,
    LinuxIDMapping,
    LinuxNamespace,
    Mount,
    Process,
    Root,
    Spec,
    User,
)
from tests.box import Box, Ended, spec

pytestmark = pytest.mark.privileged


def with_mounts(script: str, *extra: Mount, **process: Any) -> Spec:
    """Return a default specification with more mounts."""
    wanted = spec("sh", "-c", script, **process)
    wanted.mounts += extra
    return wanted


def bind(source: Path | str, destination: str, *options: str) -> Mount:
    """Return a bind mount."""
    return Mount(
        destination=destination, type="bind", source=str(source), options=["rbind", *options]
    )


def without(wanted: Spec, *destinations: str) -> Spec:
    """Leave mounts out."""
    wanted.mounts = [mount for mount in wanted.mounts if mount.destination not in destinations]
    return wanted


def in_user_namespace(wanted: Spec) -> Spec:
    """Put a container into a user namespace of its own."""
    assert wanted.linux is not None
    wanted.linux.namespaces.append(LinuxNamespace(type="user"))
    wanted.linux.uid_mappings = [LinuxIDMapping(container_id=0, host_id=200000, size=65536)]
    wanted.linux.gid_mappings = wanted.linux.uid_mappings
    return wanted


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
    before = Path("/proc/self/mountinfo").read_text()
    inside = box.shell("cut -d' ' -f5 /proc/self/mountinfo").lines
    assert Path("/proc/self/mountinfo").read_text() == before
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


# --- known escapes ---------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["proc", "sys"])
def test_cve_2019_19921_proc_and_sys_are_mounted_on_ordinary_directories_only(
    box: Box, place: str
) -> None:
    (box.root / place).rmdir()
    (box.root / "evil").mkdir()
    (box.root / place).symlink_to("evil")
    with pytest.raises(InvalidArgument, match="must be mounted on ordinary directory"):
        box.shell("true")


@pytest.mark.parametrize("where", ["/proc/self/attr", "/proc/../proc/sys", "/link/attr"])
def test_cve_2019_16884_nothing_is_mounted_inside_proc(box: Box, where: str) -> None:
    (box.root / "link").symlink_to("/proc/self")
    (box.scratch / "fake").mkdir()
    with pytest.raises(InvalidArgument, match="cannot be mounted because it is inside /proc"):
        box.run(with_mounts("true", bind(box.scratch / "fake", where)))


def test_the_files_that_lxcfs_replaces_may_be_mounted_inside_proc(box: Box) -> None:
    (box.scratch / "uptime").write_text("1 1\n")
    wanted = with_mounts("cat /proc/uptime", bind(box.scratch / "uptime", "/proc/uptime"))
    assert box.run(wanted).out == "1 1\n"


@pytest.mark.parametrize("link", ["/{outside}", "../../../../../../../../{outside}"])
def test_cve_2021_30465_a_linked_destination_stays_inside_the_root(box: Box, link: str) -> None:
    outside = box.scratch / "outside"
    outside.mkdir()
    (box.root / "link").symlink_to(link.format(outside=str(outside).lstrip("/")))
    (box.root / str(outside).lstrip("/")).mkdir(parents=True)
    source = box.scratch / "source"
    source.mkdir()
    (source / "marker").touch()
    ended = box.run(with_mounts(f"ls {outside}/sub", bind(source, "/link/sub")))
    assert ended.out == "marker\n"
    assert list(outside.iterdir()) == []


def test_cve_2024_45310_no_folder_or_file_is_made_on_the_host(box: Box) -> None:
    outside = box.scratch / "outside"
    outside.mkdir()
    (box.root / "link").symlink_to(outside)
    (box.scratch / "file").touch()
    for source in (box.scratch / "file", box.root / "etc"):
        with pytest.raises(InvalidArgument):
            box.run(with_mounts("true", bind(source, "/link/new/place")))
    assert list(outside.iterdir()) == []


def test_cve_2025_31133_a_masked_path_is_hidden_by_the_real_null_device(box: Box) -> None:
    dev = box.scratch / "dev"
    dev.mkdir()
    (dev / "null").symlink_to("/etc/target")
    (dev / "pts").mkdir()
    (box.root / "etc/target").write_text("target")
    (box.root / "etc/secret").write_text("secret")
    wanted = without(spec("stat", "-c", "%t:%T", "/etc/secret"), "/dev", "/dev/shm", "/dev/mqueue")
    wanted.mounts.insert(1, bind(dev, "/dev"))
    assert wanted.linux is not None
    wanted.linux.masked_paths = ["/etc/secret"]
    assert box.run(wanted).out == "1:3\n"


@pytest.mark.parametrize("target", ["/etc/target", "/proc/sys/kernel/core_pattern", "pts/0"])
def test_cve_2025_52565_the_console_is_never_mounted_through_a_link(box: Box, target: str) -> None:
    (box.root / "etc/target").write_text("target")
    (box.root / "dev/console").symlink_to(target)
    wanted = spec("cat", "/etc/target", terminal=True)
    wanted.mounts = [
        mount for mount in wanted.mounts if mount.destination in ("/proc", "/dev/pts", "/sys")
    ]
    with pytest.raises(InvalidArgument, match="bind the terminal to '/dev/console'"):
        box.run(wanted)


def test_cve_2025_52881_sysctls_are_written_to_the_real_procfs(box: Box) -> None:
    fake = box.root / "proc/sys/net/ipv4/ip_unprivileged_port_start"
    fake.parent.mkdir(parents=True)
    fake.write_text("untouched")
    name = "sys/net/ipv4/ip_unprivileged_port_start"
    wanted = without(spec("cat", f"/real/{name}", f"/proc/{name}"), "/proc", "/sys")
    wanted.mounts.append(Mount(destination="/real", type="proc", source="proc"))
    assert wanted.linux is not None
    wanted.linux.sysctl = {"net.ipv4.ip_unprivileged_port_start": "77"}
    wanted.linux.masked_paths = wanted.linux.readonly_paths = []
    assert box.run(wanted).out == "77\nuntouched"


def test_cve_2026_41579_devices_are_never_made_through_a_linked_dev(box: Box) -> None:
    (box.root / "dev").rmdir()
    (box.root / "evil").mkdir()
    (box.root / "dev").symlink_to("evil")
    wanted = without(spec("true"), "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    with pytest.raises(InvalidArgument, match="/dev of the container is no directory"):
        box.run(wanted)
    assert list((box.root / "evil").iterdir()) == []


def test_cve_2024_21626_no_working_directory_leads_out_of_the_root(box: Box) -> None:
    held = [os.open("/", os.O_RDONLY) for _ in range(4)]
    try:
        for number in range(3, max(held) + 8):
            with pytest.raises(InvalidArgument) as caught:
                box.shell("true", cwd=f"/proc/self/fd/{number}")
            assert "chdir to cwd" in str(caught.value) or "outside" in str(caught.value)
    finally:
        for fd in held:
            os.close(fd)


def test_cve_2022_29162_inheritable_capabilities_are_empty(box: Box) -> None:
    ended = box.shell("grep -E 'CapInh|CapAmb' /proc/self/status")
    assert [int(line.split()[1], 16) for line in ended.lines] == [0, 0]


@pytest.mark.parametrize("change", [lambda wanted: wanted, in_user_namespace])
def test_cve_2023_25809_control_groups_are_read_only(
    box: Box, change: Callable[[Spec], Spec]
) -> None:
    script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo $d; done"
    assert box.run(change(spec("sh", "-c", script))).out == ""


def test_cve_2016_9962_an_exec_cannot_be_inspected_from_inside(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of ours that is still ours, in the container, shows its descriptors to nobody."""
    from sampan.runtime import execution
    from sampan.runtime import launch as launching
    from sampan.runtime.launch import ExecRequest

    look = "for f in /proc/[2-9]*/fd/* /proc/[2-9]*/root /proc/[2-9]*/cwd; do readlink $f; done"
    script = f"echo up; read x; ls /proc >/tmp/seen; {look} >/tmp/found 2>&1; echo done; sleep 60"
    read, write = os.pipe()
    everything = LinuxCapabilities(
        bounding=all_names(), permitted=all_names(), effective=all_names()
    )
    os.chown(box.root / "tmp", 200000, 200000)
    wanted = in_user_namespace(spec("sh", "-c", script, capabilities=everything))
    out_read, out_write = os.pipe()
    container = box.start(wanted, stdio=(read, out_write, out_write))
    assert os.read(out_read, 3) == b"up\n"
    gate, go = os.pipe()
    monkeypatch.setattr(execution, "connect", lambda *_: os.read(gate, 1))
    pending = launching.launch_exec(
        ExecRequest(
            id=box.name,
            process=Process(args=["true"], env=["PATH=/bin"]),
            pid=container.launched.pid,
        )
    )
    while len(_inside(container.launched.pid)) < 2:
        pass
    os.write(write, b"\n")
    assert os.read(out_read, 5) == b"done\n"
    os.write(go, b"x")
    ended = pending.finish()
    os.waitpid(ended.pid, 0)
    ended.pidfd.close()
    assert {"1", "2"} <= set((box.root / "tmp/seen").read_text().split())
    assert (box.root / "tmp/found").read_text() == ""
    for fd in (read, write, out_read, out_write, gate, go, container.out, container.err):
        os.close(fd)


def _inside(init: int) -> list[str]:
    """Return the pids of processes in the pid namespace of `init`."""
    space = os.readlink(f"/proc/{init}/ns/pid")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == space:
                found.append(pid)
        except OSError:
            continue
    return found


SHARED = """
import os, sys
from pathlib import Path
from sampan.linux import mounts, namespaces
from tests.box import Box, spec
namespaces.unshare(namespaces.CLONE_NEWNS)
mounts.mount(None, b'/', None, mounts.MS_REC | mounts.MS_SLAVE)
mounts.mount(None, b'/', None, mounts.MS_REC | mounts.MS_SHARED)
box = Box(Path(sys.argv[1]), Path(sys.argv[2]))
table = Path('/proc/thread-self/mountinfo')
before = table.read_text()
directory = os.open(box.root, os.O_PATH)
ended = box.run(spec('echo', 'ran'), root=mounts.clone_tree(directory))
print(ended.out.strip(), 'leaked' if table.read_text() != before else 'clean')
box.close()
"""


def test_mounts_of_a_container_do_not_reach_a_host_whose_mounts_are_shared(box: Box) -> None:
    arguments = [sys.executable, "-c", SHARED, str(box.root), str(box.scratch)]
    here = Path(__file__).parents[2]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=here, check=False)
    assert done.stdout == "ran clean\n", done.stderr


SEALED = """
import os, sys
from sampan.runtime import seal
seal.seal()
from pathlib import Path
from tests.box import Box, spec
from tests.box import Mount
box = Box(Path(sys.argv[1]), Path(sys.argv[2]))
code = "import os; f = os.open('/proc/self/exe', os.O_PATH); os.set_inheritable(f, True);"
code += "os.dup2(f, 9); os.execv('/bin/sh', ['sh', '-c', "
code += "'echo x >/proc/self/fd/9; echo x >>/proc/self/fd/9'])"
wanted = spec('/proc/self/exe', '-I', '-S', '-c', code)
for place in ('/lib', '/lib64', '/usr'):
    if os.path.exists(place):
        wanted.mounts.append(
            Mount(destination=place, type='bind', source=place, options=['rbind', 'ro'])
        )
ended = box.run(wanted)
print(seal.is_sealed(), ended.out, ended.err)
box.close()
"""


def test_cve_2019_5736_the_interpreter_cannot_be_overwritten_through_proc_self_exe(
    box: Box,
) -> None:
    arguments = [sys.executable, "-c", SEALED, str(box.root), str(box.scratch)]
    here = Path(__file__).parents[2]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=here, check=False)
    assert done.stdout.startswith("True"), done.stderr
    # On Linux 6.1 a running file is found to be busy before it is found to be read-only.
    refusals = ("Read-only file system", "Text file busy")
    assert sum(done.stdout.count(refusal) for refusal in refusals) == 2


AUDITED = """
import os, sys
from pathlib import Path
from tests.box import Box, Process, spec
from sampan.runtime import joining, rootfs
inside = False
def hook(event, arguments):
    if not inside or event not in ('import', 'open', 'ctypes.dlopen', 'os.listdir', 'os.scandir'):
        return
    path = arguments[0]
    if event == 'open' and not isinstance(path, str | bytes):
        return
    os.write(2, b'TOUCHED ' + event.encode() + b' ' + os.fsencode(str(path)) + b'\\n')
def entering(f):
    def wrapped(*arguments):
        global inside
        inside = True
        return f(*arguments)
    return wrapped
rootfs.pivot = entering(rootfs.pivot)
joining.join_all = entering(joining.join_all)
sys.addaudithook(hook)
box = Box(Path(sys.argv[1]), Path(sys.argv[2]))
for terminal in (False, True):
    for args in (['true'], ['nosuch'], ['/etc'], ['/etc/passwd'], ['/broken']):
        try:
            box.run(spec(*args, terminal=terminal))
        except Exception as error:
            print(type(error).__name__)
container = box.start(spec('sh', '-c', 'echo up; exec sleep 60'))
os.read(container.out, 3)
for args in (['true'], ['nosuch']):
    try:
        box.exec(container, Process(args=args, env=['PATH=/bin'])).end()
    except Exception as error:
        print(type(error).__name__)
box.close()
"""


def test_cve_2019_14271_nothing_is_imported_or_looked_up_inside_the_root(box: Box) -> None:
    library = box.root / "usr/lib" / f"python3.{sys.version_info.minor}"
    library.mkdir(parents=True)
    shutil.copy("/bin/busybox", box.root / "broken")
    (box.root / "broken").write_bytes(b"\x7fELF")
    arguments = [sys.executable, "-c", AUDITED, str(box.root), str(box.scratch)]
    here = Path(__file__).parents[2]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=here, check=False)
    assert done.returncode == 0, done.stderr
    touched = [line for line in done.stderr.splitlines() if line.startswith("TOUCHED")]
    allowed = ("TOUCHED open b'ptmx'", "TOUCHED open b'console'", "TOUCHED open b'/'")
    assert [line for line in touched if not line.startswith(allowed)] == []
    expected = ["CommandNotFound", *["CommandNotExecutable"] * 3]
    assert done.stdout.split() == [*expected, *expected, "CommandNotFound"]


def test_the_user_of_the_image_is_never_looked_up_by_the_host(box: Box) -> None:
    (box.root / "etc/passwd").write_text("root:x:77:77::/elsewhere:/bin/sh\n")
    assert box.shell("id -u", user=User(uid=0)).out == "0\n"
