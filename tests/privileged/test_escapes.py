"""Known ways out of a container, tried on the runtime: each is a test named after its CVE."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.linux.capabilities import all_names
from sampan.spec.runtime import LinuxCapabilities, Mount, Process, Spec, User
from tests.box import Box, spec
from tests.session import eventually
from tests.specifications import bind, in_user_namespace, with_mounts, without

pytestmark = pytest.mark.privileged


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


@pytest.mark.parametrize(
    "mount",
    [
        Mount(destination="/proc", type="tmpfs", source="tmpfs"),
        Mount(destination="//proc/.", type="bind", source="/etc", options=["rbind"]),
    ],
)
def test_cve_2019_16884_nothing_else_is_mounted_in_the_place_of_proc(
    box: Box, mount: Mount
) -> None:
    with pytest.raises(InvalidArgument, match="cannot be mounted because it is not of type proc"):
        box.run(with_mounts("true", mount))


def test_the_procfs_of_the_host_may_be_mounted_on_proc(box: Box) -> None:
    wanted = without(with_mounts("ls /proc/self/status", bind("/proc", "/proc")), "/sys")
    assert wanted.linux is not None
    wanted.linux.namespaces = [n for n in wanted.linux.namespaces if n.type != "pid"]
    wanted.mounts = [m for m in wanted.mounts if m.type != "proc"]
    assert box.run(wanted).out == "/proc/self/status\n"


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
    from sampan.runtime.starting import execution
    from sampan.runtime.starting import launch as launching
    from sampan.runtime.starting.launch import ExecRequest

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
    eventually(lambda: len(_inside(container.launched.pid)) == 2)
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
from sampan.runtime.confinement import seal
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
from sampan.runtime.starting import joining
from sampan.runtime.roots import rootfs
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
    # The last is verified to be that device: see null.py.
    names = ("ptmx", "console", "/", "/dev/null")
    allowed = tuple(f"TOUCHED open b'{name}'" for name in names)
    assert [line for line in touched if not line.startswith(allowed)] == []
    expected = ["CommandNotFound", *["CommandNotExecutable"] * 3]
    assert done.stdout.split() == [*expected, *expected, "CommandNotFound"]


def test_the_user_of_the_image_is_never_looked_up_by_the_host(box: Box) -> None:
    (box.root / "etc/passwd").write_text("root:x:77:77::/elsewhere:/bin/sh\n")
    assert box.shell("id -u", user=User(uid=0)).out == "0\n"


@pytest.mark.parametrize("own", ["none", "fifo", "link"])
def test_streams_are_never_the_null_device_of_the_host(box: Box, own: str) -> None:
    """Where the container has no such device itself: at the end of input, outputs read-only."""
    dev = box.scratch / "dev"
    (dev / "pts").mkdir(parents=True)
    if own == "fifo":
        os.mkfifo(dev / "null")
    elif own == "link":
        (dev / "null").symlink_to("/etc/passwd")
    script = "cat; for n in 0 1; do chmod 0660 /proc/self/fd/$n && echo $n >>/tmp/changed; done"
    wanted = without(spec("sh", "-c", script), "/dev", "/dev/shm", "/dev/mqueue")
    wanted.mounts.insert(1, bind(dev, "/dev"))
    before = os.stat("/dev/null").st_mode
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    (box.root / "tmp").mkdir(exist_ok=True)
    out, err = os.pipe2(os.O_CLOEXEC)
    try:
        box.run(wanted, stdio=(null, null, err))
        assert os.stat("/dev/null").st_mode == before
    finally:
        os.chmod("/dev/null", before & 0o7777)
        for fd in (null, out, err):
            os.close(fd)
    changed = box.root / "tmp/changed"
    assert not changed.exists() or changed.read_text() == "0\n"  # a pipe of its own
