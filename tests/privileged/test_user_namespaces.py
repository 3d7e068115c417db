"""Containers in user namespaces that were made before them: what the kernel says of them."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sampan.errors import Internal, InvalidArgument
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.namespaces import KINDS
from sampan.runtime.starting import direct_user
from sampan.runtime.starting.launch import launch
from sampan.runtime.starting.requests import LaunchRequest
from sampan.runtime.starting.user_namespaces import Made, make
from sampan.spec.runtime import (
    Hook,
    Hooks,
    LinuxIDMapping,
    LinuxNamespace,
    Mount,
    Process,
    Rlimit,
    Spec,
    User,
)
from sampan.storage.idmapped import id_mapped
from tests.box import CAPABILITIES, Box, Running, spec
from tests.in_range import FIRST, SIZE, maps
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

NS_GET_USERNS = 0xB701  # linux/nsfs.h


@pytest.fixture
def made() -> Iterator[Made]:
    """A user namespace with a network of its own."""
    namespaces = make(maps(), maps(), network=True)
    yield namespaces
    os.close(namespaces.user)
    os.close(namespaces.network)


def wanted(*args: str, **process: object) -> Spec:
    """Return a specification with maps; its namespaces are given beside it."""
    found = spec(*args, **process)
    assert found.linux is not None
    found.linux.uid_mappings = found.linux.gid_mappings = maps()
    return found


def start(box: Box, made: Made, specification: Spec, **more: object) -> Running:
    """Start a container on an id-mapped mount of the root."""
    root = id_mapped(box.root, made.user)
    try:
        return box.start(
            specification, root=root, user_namespace=made.user, network=made.network, **more
        )
    finally:
        os.close(root)


def run(box: Box, made: Made, script: str, **process: object) -> list[str]:
    """Run a shell script; return the lines of its output."""
    ended = start(box, made, wanted("sh", "-c", script, **process)).end()
    assert ended.code == 0, ended.err
    return ended.lines


def status(running: Running, name: str) -> list[str]:
    """Return the words of a line of /proc/PID/status, as the host sees it."""
    lines = Path(f"/proc/{running.launched.pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


def test_the_root_inside_is_nobody_outside(box: Box, made: Made) -> None:
    running = start(box, made, wanted("sh", "-c", "id -u; exec sleep 60"))
    assert os.read(running.out, 2) == b"0\n"
    assert status(running, "Uid") == [str(FIRST)] * 4
    assert status(running, "Gid") == [str(FIRST)] * 4
    assert status(running, "Groups") == []
    uid_map = Path(f"/proc/{running.launched.pid}/uid_map").read_text().split()
    assert uid_map == ["0", str(FIRST), str(SIZE)]
    os.close(running.out)
    os.close(running.err)


def test_every_namespace_belongs_to_the_user_namespace(box: Box, made: Made) -> None:
    running = start(box, made, wanted("sh", "-c", "echo up; exec sleep 60"))
    assert os.read(running.out, 3) == b"up\n"
    own = os.fstat(made.user)
    for kind in ("mnt", "net", "pid", "ipc", "uts", "cgroup"):
        fd = os.open(f"/proc/{running.launched.pid}/ns/{kind}", os.O_RDONLY)
        owner = fcntl.ioctl(fd, NS_GET_USERNS)
        is_own = os.path.sameopenfile(owner, made.user) or os.fstat(owner).st_ino == own.st_ino
        os.close(owner)
        os.close(fd)
        assert is_own == (kind != "cgroup"), kind  # the specification leaves the host's cgroup one
    os.close(running.out)
    os.close(running.err)


def test_its_files_are_its_own(box: Box, made: Made) -> None:
    script = "stat -c %u /bin /etc/passwd; echo x >/new; chown 1000 /new; stat -c %u /new /dev/shm"
    assert run(box, made, script) == ["0", "0", "1000", "0"]
    assert (box.root / "new").stat().st_uid == 1000


def test_it_has_the_usual_mounts_and_devices(box: Box, made: Made) -> None:
    script = (
        "grep -c . /proc/self/mounts; echo x >/dev/null; head -c1 /dev/zero | wc -c;"
        " ls /sys/class/net; echo y >/dev/shm/f; cat /dev/shm/f; hostname;"
        " ls -d /dev/mqueue; echo $$"
    )
    assert run(box, made, script)[1:] == ["1", "lo", "y", "box", "/dev/mqueue", "1"]


def test_loopback_is_up(box: Box, made: Made) -> None:
    assert "127.0.0.1" in "".join(run(box, made, "ip addr show lo"))


def test_privileges_over_the_network_end_at_its_own(box: Box, made: Made) -> None:
    names = [*CAPABILITIES, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]
    from sampan.runtime.defaults import capabilities

    script = "ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu; nsenter -n -t 1 true"
    assert run(box, made, script, capabilities=capabilities(names)) == ["1400"]


def test_a_user_inside_is_that_user_of_the_range(box: Box, made: Made) -> None:
    user = User(uid=1000, gid=1000, additional_gids=[5])
    specification = wanted("sh", "-c", "echo x >/dev/stdout; exec sleep 60", user=user)
    running = start(box, made, specification)
    assert os.read(running.out, 2) == b"x\n"  # the pipe can be opened by name
    assert status(running, "Uid") == [str(FIRST + 1000)] * 4
    assert status(running, "Groups") == [str(FIRST + 5)]
    os.close(running.out)
    os.close(running.err)


def test_an_exec_is_in_the_same_namespace(box: Box, made: Made) -> None:
    running = start(box, made, wanted("sh", "-c", "echo up; exec sleep 60"))
    assert os.read(running.out, 3) == b"up\n"
    process = Process(args=["sh", "-c", "id -u; cat /proc/self/uid_map; echo x >/dev/stdout"])
    process.env = ["PATH=/bin"]
    ended = box.exec(running, process).end()
    assert ended.code == 0, ended.err
    assert [line.split() for line in ended.lines] == [["0"], ["0", str(FIRST), str(SIZE)], ["x"]]
    os.close(running.out)
    os.close(running.err)


def test_a_bind_keeps_its_owners_and_an_id_mapped_one_shifts_them(
    box: Box, made: Made, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "of5").write_text("x")
    os.chown(source / "of5", 5, 5)
    specification = wanted("sh", "-c", "stat -c %u /plain/of5 /mapped/of5; echo y >/mapped/new")
    for name, options in (("/plain", ["bind"]), ("/mapped", ["bind", "idmap"])):
        mount = Mount(destination=name, type="bind", source=str(source), options=options)
        specification.mounts.append(mount)
    ended = start(box, made, specification).end()
    assert (ended.lines, ended.err) == (["65534", "5"], "")
    assert (source / "new").stat().st_uid == 0


def test_another_container_may_join_all_of_it(box: Box, made: Made) -> None:
    running = start(box, made, wanted("sh", "-c", "echo up; exec sleep 60"))
    assert os.read(running.out, 3) == b"up\n"
    pid = running.launched.pid
    second = Box(box.root, box.scratch)
    script = "; ".join(f"readlink /proc/self/ns/{KINDS[kind][1]}" for kind in ("user", "network"))
    specification = wanted("sh", "-c", script)
    assert specification.linux is not None
    specification.linux.namespaces = [
        LinuxNamespace(type=kind)  # type: ignore[arg-type]
        for kind in ("mount", "uts", "ipc", "pid")
    ]
    root = id_mapped(box.root, made.user)
    ended = second.run(specification, root=root, pull_in={"user": pid, "network": pid})
    os.close(root)
    assert ended.lines == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "net")]
    os.close(running.out)
    os.close(running.err)


def test_no_supervisor_is_needed(box: Box, made: Made) -> None:
    request = LaunchRequest(id="x", spec=wanted("true"), root="/", user_namespace=made.user)
    assert direct_user.is_possible(request)


def test_a_start_that_a_supervisor_carries_out_is_the_same(box: Box, made: Made) -> None:
    specification = wanted("sh", "-c", "id -u; stat -c %u /bin; echo x >/dev/stdout; hostname")
    specification.hooks = Hooks(create_runtime=[Hook(path="/bin/true", args=["true"])])
    ended = start(box, made, specification).end()
    assert (ended.lines, ended.err) == (["0", "0", "x", "box"], "")


def test_a_supervisor_that_is_killed_takes_init_along(box: Box, made: Made) -> None:
    specification = wanted("sleep", "60")
    started = box.scratch / "started"
    words = ["sh", "-c", f"echo $PPID >{started}.new; mv {started}.new {started}; exec sleep 60"]
    specification.hooks = Hooks(create_runtime=[Hook(path="/bin/sh", args=words)])
    root = id_mapped(box.root, made.user)
    given = {"user_namespace": made.user, "network": made.network, "cgroup": f"/{box.name}"}
    try:
        launching = launch(LaunchRequest(id=box.name, spec=specification, root=root, **given))
    finally:
        os.close(root)
    eventually(started.exists)
    supervisor = int(started.read_text())
    hooks = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    for pid in (supervisor, *map(int, hooks)):
        with suppress(ProcessLookupError):  # it has ended with the supervisor
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(Internal, match="the process that starts containers was killed"):
        launching.finish()
    eventually(lambda: not open_cgroup(f"/{box.name}").pids())


def test_what_fails_leaves_nothing(box: Box, made: Made) -> None:
    specification = wanted("true")
    missing = Mount(destination="/x", type="bind", source="/no/such", options=["bind"])
    specification.mounts.append(missing)
    with pytest.raises(InvalidArgument, match='error mounting "/no/such"'):
        start(box, made, specification)
    with pytest.raises(InvalidArgument, match="nosuch"):
        start(box, made, wanted("/bin/nosuch"))
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{box.name}"))


@pytest.mark.parametrize(
    "ids",
    [
        [LinuxIDMapping(container_id=0, host_id=FIRST, size=9)] * 2,
        [LinuxIDMapping(container_id=0, host_id=4294967295, size=2)],
        [],
    ],
)
def test_maps_that_the_kernel_refuses_are_refused(ids: list[LinuxIDMapping]) -> None:
    with pytest.raises(InvalidArgument, match="unable to write the id mappings"):
        make(ids, ids)


def test_a_limit_is_set_as_it_is_asked_for(box: Box, made: Made) -> None:
    limits = [Rlimit(type="RLIMIT_NOFILE", soft=77, hard=88)]
    assert run(box, made, "ulimit -Sn; ulimit -Hn", rlimits=limits) == ["77", "88"]


@pytest.mark.kernel("cgroup2")
@pytest.mark.parametrize("writable", [True, False])
def test_a_control_group_that_is_seen_writable_is_delegated(
    box: Box, made: Made, writable: bool
) -> None:
    script = (
        "cd /sys/fs/cgroup; mkdir sub && echo $$ >sub/cgroup.procs && echo moved;"
        " echo max >memory.max && echo lifted; true"
    )
    specification = wanted("sh", "-c", script)
    assert specification.linux is not None
    specification.linux.namespaces.append(LinuxNamespace(type="cgroup"))
    for mount in specification.mounts:
        if mount.type == "cgroup" and writable:
            mount.options.remove("ro")
    ended = start(box, made, specification).end()
    assert ended.lines == (["moved"] if writable else [])
    for folder in Path(f"/sys/fs/cgroup/{box.name}").glob("sub"):
        folder.rmdir()
