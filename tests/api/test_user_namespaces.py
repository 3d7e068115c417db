"""Containers with a range of ids of their own: what clients, the host and other ranges see."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
REMAPPED, OURS = 700_000_000, 800_000_000  # first ids of the user daemon, and of the engine


@pytest.fixture(scope="module")
def remapping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with --userns-remap, in a mount namespace where the user daemon has ids."""
    file = tmp_path_factory.mktemp("etc") / "subid"
    file.write_text(f"daemon:{REMAPPED}:65536\nsampan:{OURS}:131072\n")
    script = 'mount --bind "$0" /etc/subuid; mount --bind "$0" /etc/subgid; exec "$@"'
    within = ["unshare", "--mount", "sh", "-ec", script, str(file)]
    with running("--userns-remap=daemon", within=within) as daemon:
        daemon.import_image()
        yield daemon


@pytest.fixture
def remapped(remapping: Daemon) -> Iterator[Daemon]:
    """The same, without containers."""
    yield remapping
    remapping.remove_containers()


def sampan(daemon: Daemon, *words: str, check: bool = True, input: str = "") -> str:
    """Run the command line; return what it prints."""
    done = subprocess.run(
        [daemon.programs["sampan"], *words],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=False,
        input=input,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done.stderr


def inspect(daemon: Daemon, name: str) -> Any:
    return daemon.request("GET", f"/containers/{name}/json").json


def uid_map(daemon: Daemon, name: str) -> list[int]:
    """Return the map of a running container, as the kernel tells it on the host."""
    pid = inspect(daemon, name)["State"]["Pid"]
    return [int(word) for word in Path(f"/proc/{pid}/uid_map").read_text().split()]


@pytest.mark.kernel
def test_a_container_of_its_own_range_works_like_any_other(daemon: Daemon, tmp_path: Path) -> None:
    script = "echo x >/f; chown 5:6 /f; rm -r /home; echo y >/vol/f; exec sleep 1000"
    words = ["-v", "/vol", "--name", "mine", "busybox", "sh", "-c", script]
    sampan(daemon, "run", "-d", "--userns=auto", *words)
    inside, first, size = uid_map(daemon, "mine")
    assert (inside, size) == (0, 65536)
    assert first >= 1 << 30
    # On disk, everything belongs to whom the container says.
    upper = Path(inspect(daemon, "mine")["GraphDriver"]["Data"]["UpperDir"])
    volume = Path(inspect(daemon, "mine")["Mounts"][0]["Source"])
    eventually((volume / "f").exists)
    assert ((upper / "f").stat().st_uid, (upper / "f").stat().st_gid) == (5, 6)
    assert (volume / "f").stat().st_uid == 0
    # Copies, changes and images show nothing of the range.
    (tmp_path / "in").write_text("in")
    sampan(daemon, "cp", str(tmp_path / "in"), "mine:/root/in")
    assert sampan(daemon, "exec", "mine", "stat", "-c", "%u", "/root/in", "/f") == "0\n5\n"
    archive = daemon.request("GET", "/containers/mine/archive?path=/f").body
    assert int(archive[108:115], 8) == 5  # ustar: uid
    changed = sampan(daemon, "diff", "mine").splitlines()
    assert set(changed) >= {"A /f", "D /home"}
    sampan(daemon, "commit", "mine", "committed")
    assert sampan(daemon, "run", "--rm", "committed", "stat", "-c", "%u:%g", "/f") == "5:6\n"
    sampan(daemon, "rmi", "committed")
    assert "sleep 1000" in sampan(daemon, "top", "mine")
    # The range stays with the container.
    sampan(daemon, "restart", "-t", "0", "mine")
    assert uid_map(daemon, "mine") == [0, first, size]
    sampan(daemon, "run", "-d", "--userns=auto", "--name", "other", "busybox", "sleep", "1000")
    assert abs(uid_map(daemon, "other")[1] - first) >= size


def test_what_is_shared_is_shared_with_its_user_namespace(daemon: Daemon) -> None:
    words = ["--ipc=shareable", "--name", "mine", "busybox", "sleep", "1000"]
    sampan(daemon, "run", "-d", "--userns=auto", *words)
    first = str(uid_map(daemon, "mine")[1])
    for kind in ("net", "pid", "ipc"):
        shown = sampan(
            *(daemon, "run", "--rm", f"--{kind}=container:mine", "busybox"),
            *("sh", "-c", "cat /proc/self/uid_map; ip addr show eth0"),
        )
        assert shown.split()[:2] == ["0", first], kind
        assert "inet 172.17." in shown
    refused = sampan(
        *(daemon, "run", "--userns=auto", "--net=container:mine", "busybox", "true"), check=False
    )
    assert "conflicting options: --userns=auto" in refused


def test_it_finds_others_by_name_and_they_find_it(daemon: Daemon) -> None:
    daemon.request("POST", "/networks/create", {"Name": "named"})
    try:
        words = ["--network", "named", "--name"]
        sampan(daemon, "run", "-d", "--userns=auto", *words, "mine", "busybox", "sleep", "1000")
        for options in (["--userns=auto"], []):
            command = ["run", "--rm", *options, "--network", "named", "busybox"]
            assert "1 packets received" in sampan(daemon, *command, "ping", "-c", "1", "mine")
    finally:
        daemon.remove_containers()
        daemon.request("DELETE", "/networks/named")


@pytest.mark.parametrize(
    "options",
    [
        ["--ipc=host"],
        ["--net=host", "--pid=host", "--uts=host", "--ipc=host"],
        ["--device=/dev/zero:/dev/nothing"],
    ],
)
def test_what_is_the_hosts_can_be_shown(daemon: Daemon, options: list[str]) -> None:
    script = "test -e /dev/mqueue && ! test -e /dev/nothing || head -c 1 /dev/nothing | wc -c"
    sampan(daemon, "run", "--rm", "--userns=auto", *options, "busybox", "sh", "-c", script)


def test_all_capabilities_inside_are_none_outside(daemon: Daemon) -> None:
    script = (
        "mount -t tmpfs x /tmp && ip link set lo mtu 1400 && hostname changed && "
        "{ echo 1 >/proc/sys/kernel/panic; mknod /tmp/sda b 8 0; date -s 2000-01-01; } 2>&1; true"
    )
    shown = sampan(
        daemon, "run", "--rm", "--privileged", "--userns=auto", "busybox", "sh", "-c", script
    )
    assert len([line for line in shown.splitlines() if "denied" in line or "not perm" in line]) == 3


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("keep-id", "rootless"), ("auto:size=x", "is not a number"), ("auto:a=b", "unknown option")],
)
def test_modes_that_do_not_exist_are_refused(daemon: Daemon, mode: str, reason: str) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"UsernsMode": mode}}
    answer = daemon.request("POST", "/containers/create", body)
    assert answer.status == 400
    assert f"invalid user namespace mode: {mode}" in answer.json["message"]
    assert reason in answer.json["message"]
    assert daemon.request("GET", "/containers/json?all=1").json == []


def test_more_ids_than_there_are_is_a_conflict_that_leaves_nothing(daemon: Daemon) -> None:
    host = {"UsernsMode": "auto:size=4000000000"}
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host}
    answer = daemon.request("POST", "/containers/create?name=huge", body)
    assert (answer.status, "no range of 4000000000 ids" in answer.json["message"]) == (409, True)
    assert daemon.request("GET", "/containers/json?all=1").json == []


# --- --userns-remap of the daemon ----------------------------------------------------------


def docker(daemon: Daemon, *words: str) -> str:
    """Run docker's command line; return all that it prints."""
    command = [daemon.programs["docker"], *words]
    done = subprocess.run(
        command, env=daemon.environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_remapped_daemon_puts_all_containers_into_one_range(remapped: Daemon) -> None:
    for name in ("first", "second"):
        docker(remapped, "run", "-d", "--name", name, "-v", "/vol", "busybox", "sleep", "1000")
        assert uid_map(remapped, name) == [0, REMAPPED, 65536]
    assert "userns" in docker(remapped, "info", "--format", "{{.SecurityOptions}}")
    shown = docker(remapped, "run", "--rm", "--userns=host", "busybox", "cat", "/proc/self/uid_map")
    assert shown.split() == ["0", "0", "4294967295"]
    image = ["--mount", "type=image,source=busybox,target=/image"]
    assert sampan(remapped, "run", "--rm", *image, "busybox", "stat", "-c", "%u", "/image") == "0\n"
    # Images and volumes are not those of the range: the host's containers have them, too.
    shared = docker(
        *(remapped, "run", "--rm", "--volumes-from", "first", "--userns=host", "busybox"),
        *("stat", "-c", "%u", "/vol", "/bin"),
    )
    assert shared == "0\n0\n"


def test_a_folder_that_is_made_for_a_bind_can_be_written(remapped: Daemon, tmp_path: Path) -> None:
    bind = ["-v", f"{tmp_path}/new/folder:/data"]
    assert docker(remapped, "run", "--rm", *bind, "busybox", "touch", "/data/file") == ""
    owners = {path.stat().st_uid for path in (tmp_path / "new").rglob("*")}
    assert owners == {REMAPPED}


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--privileged", "privileged mode is incompatible with user namespaces."),
        ("--net=host", "cannot share the host's network namespace when user namespaces are"),
        ("--pid=host", "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_needs_the_host_has_to_say_so(remapped: Daemon, flag: str, sentence: str) -> None:
    assert sentence in docker(remapped, "run", "--rm", flag, "busybox", "true")
    assert docker(remapped, "run", "--rm", flag, "--userns=host", "busybox", "true") == ""


def test_a_killed_daemon_hands_no_range_out_again(remapped: Daemon) -> None:
    for name in ("first", "second"):
        sampan(remapped, "run", "-d", "--userns=auto", "--name", name, "busybox", "sleep", "1000")
    firsts = {uid_map(remapped, name)[1] for name in ("first", "second")}
    assert firsts == {OURS, OURS + 65536}
    parts = remapped.parts()
    for name in ("supervisor", "api"):
        with contextlib.suppress(ProcessLookupError):  # one goes with the other
            os.kill(parts[name], signal.SIGKILL)
    assert remapped.process
    remapped.process.wait()
    remapped.start()
    assert {uid_map(remapped, name)[1] for name in ("first", "second")} == firsts
    refused = sampan(remapped, "run", "--userns=auto", "busybox", "true", check=False)
    assert "no range of 65536 ids is free for --userns=auto: 2 are in use" in refused
    sampan(remapped, "rm", "-f", "first")
    sampan(remapped, "run", "--rm", "--userns=auto", "busybox", "true")


# --- binds that belong to the container's user -------------------------------------------------


@pytest.mark.parametrize("client", ["docker", "sampan"])
def test_files_in_an_id_mapped_bind_belong_to_the_caller(
    daemon: Daemon, tmp_path: Path, client: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 4242, 4243)
    script = "echo x >/data/$0; stat -c %u:%g /data/$0"
    for number, words in enumerate((["-u", "0:0"], ["-u", "1000:1001"], ["--userns=auto"])):
        if client == "docker" and "--userns=auto" in words:
            continue  # its own rule: it knows no other word than host
        name = f"file{number}"
        command = [
            *(daemon.programs[client], "run", "--rm", *words, "-v", f"{home}:/data:idmap"),
            *("busybox", "sh", "-c", script, name),
        ]
        shown = subprocess.check_output(command, env=daemon.environment, text=True)
        assert shown == ("1000:1001\n" if number == 1 else "0:0\n")
        assert ((home / name).stat().st_uid, (home / name).stat().st_gid) == (4242, 4243)


def test_a_bind_can_be_mapped_id_by_id_or_given_away(daemon: Daemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 50, 60)
    mapped = f"{tmp_path}:/data:ro,idmap=uids=50-7-1;gids=60-8-1"
    shown = sampan(
        daemon, "run", "--rm", "-v", mapped, "busybox", "stat", "-c", "%u:%g", "/data/file"
    )
    assert shown == "7:8\n"
    given = ["-u", "9:9", "-v", f"{tmp_path}:/data:U", "busybox", "touch", "/data/file"]
    sampan(daemon, "run", "--rm", *given)
    assert (tmp_path / "file").stat().st_uid == 9
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": ["/x:/y:U,idmap"]}}
    answer = daemon.request("POST", "/containers/create", body)
    assert answer.status == 400
    assert "invalid mode: U,idmap" in answer.json["message"]
