"""What happens when our processes are killed, the disk is full, or a container misbehaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import Daemon, running
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

COUNT = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done"


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    """A daemon that the test may hurt."""
    with running() as daemon:
        daemon.import_image()
        yield daemon


def create(daemon: Daemon, *command: str, **config: Any) -> str:
    answer = daemon.request(
        "POST", "/containers/create", {"Image": "busybox", "Cmd": list(command), **config}
    )
    assert answer.status == 201, answer.body
    identifier: str = answer.json["Id"]
    return identifier


def start(daemon: Daemon, *command: str, **config: Any) -> str:
    container = create(daemon, *command, **config)
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status == 204, answer.body
    return container


def state(daemon: Daemon, container: str) -> dict[str, Any]:
    value: dict[str, Any] = daemon.request("GET", f"/containers/{container}/json").json["State"]
    return value


def lines(daemon: Daemon, container: str) -> list[str]:
    """Return the log's lines; the frames' headers are cut off."""
    body = daemon.request("GET", f"/containers/{container}/logs?stdout=1&stderr=1").body
    found = []
    while body:
        size = int.from_bytes(body[4:8], "big")
        found += body[8 : 8 + size].decode().splitlines()
        body = body[8 + size :]
    return found


def run_in(daemon: Daemon, container: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [daemon.programs["docker"], "exec", container, *command],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def wait(daemon: Daemon, container: str) -> int:
    code: int = daemon.request("POST", f"/containers/{container}/wait").json["StatusCode"]
    return code


def restart_after_kill(daemon: Daemon, victims: list[int]) -> None:
    """Kill processes of the daemon without warning and see that it serves again."""
    assert daemon.process
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):  # it went with an earlier one
            os.kill(pid, signal.SIGKILL)
    if daemon.process.pid in victims:
        daemon.process.wait(PATIENCE)
        daemon.start()
    # The API may not have heard yet that another part has ended, nor itself have been replaced.
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in victims))
    eventually(lambda: serves(daemon))


def serves(daemon: Daemon) -> bool:
    try:
        return daemon.request("GET", "/containers/json").status == 200
    except OSError:
        return False


def test_every_process_of_ours_may_be_killed_while_containers_run(own_daemon: Daemon) -> None:
    daemon = own_daemon
    counting = start(daemon, "sh", "-c", COUNT)
    ending = start(daemon, "sh", "-c", "read line; exit 7", OpenStdin=True)
    pid = state(daemon, counting)["Pid"]
    for victim in sorted(daemon.processes()):
        if not Path(f"/proc/{victim}").exists():
            continue
        restart_after_kill(daemon, [victim])
        assert state(daemon, counting)["Pid"] == pid
        assert state(daemon, ending)["Running"]
        seen = len(lines(daemon, counting))
        eventually(lambda seen=seen: len(lines(daemon, counting)) > seen + 2)
        eventually(lambda: run_in(daemon, counting, "echo", "entered").stdout == "entered\n")
        assert wait(daemon, start(daemon, "sh", "-c", "exit 5")) == 5
    numbers = [int(line.split()[1]) for line in lines(daemon, counting)]
    assert numbers == list(range(1, len(numbers) + 1)), "a log line was lost or doubled"


def test_all_processes_of_ours_may_be_killed_at_once(own_daemon: Daemon) -> None:
    daemon = own_daemon
    sleeping = start(daemon, "sleep", "1000")
    created = create(daemon, "true")
    pid = state(daemon, sleeping)["Pid"]
    restart_after_kill(daemon, daemon.processes())
    assert state(daemon, sleeping)["Status"] == "running"
    assert state(daemon, sleeping)["Pid"] == pid
    assert state(daemon, created)["Status"] == "created"
    assert run_in(daemon, sleeping, "echo", "entered").stdout == "entered\n"
    assert daemon.request("POST", f"/containers/{sleeping}/kill").status == 204
    eventually(lambda: state(daemon, sleeping)["Status"] == "exited")


def test_an_exit_while_the_daemon_is_dead_is_known_afterwards(own_daemon: Daemon) -> None:
    daemon = own_daemon
    container = start(daemon, "sh", "-c", "echo last words; sleep 1; exit 9")
    daemon.stop()
    time.sleep(1.2)  # the container's own time, not ours
    daemon.start()
    eventually(lambda: state(daemon, container)["Status"] == "exited")
    assert state(daemon, container)["ExitCode"] == 9
    assert lines(daemon, container) == ["last words"]


def test_what_was_created_before_a_kill_is_there_afterwards(own_daemon: Daemon) -> None:
    daemon = own_daemon
    acknowledged: list[str] = []
    stopping = threading.Event()

    def create_until_the_end() -> None:
        while not stopping.is_set():
            try:
                acknowledged.append(create(daemon, "true"))
            except (OSError, AssertionError):
                return

    thread = threading.Thread(target=create_until_the_end)
    thread.start()
    eventually(lambda: len(acknowledged) > 10)
    restart_after_kill(daemon, daemon.processes())
    stopping.set()
    thread.join()
    present = {c["Id"] for c in daemon.request("GET", "/containers/json?all=1").json}
    assert set(acknowledged) <= present


def test_a_flood_of_output_harms_nobody_else(own_daemon: Daemon) -> None:
    daemon = own_daemon
    flood = start(
        daemon,
        "sh",
        "-c",
        "yes flooding the log with lines",
        HostConfig={
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}
        },
    )
    neighbour = start(daemon, "sh", "-c", COUNT)
    assert wait(daemon, start(daemon, "true")) == 0
    eventually(lambda: len(lines(daemon, neighbour)) > 5)
    folder = daemon.data_root / "containers" / flood
    eventually(lambda: sum(1 for _ in folder.glob("*-json.log*")) == 2)
    assert sum(size(file) for file in folder.glob("*-json.log*")) < 4 << 20


def size(file: Path) -> int:
    """Return the size of a log; 0 while its name is given to another one."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_fork_bomb_is_stopped_by_its_limit(own_daemon: Daemon) -> None:
    daemon = own_daemon
    bomb = start(daemon, "sh", "-c", "f() { f | f & }; f; sleep 1000", HostConfig={"PidsLimit": 20})
    assert wait(daemon, start(daemon, "true")) == 0
    assert daemon.request("DELETE", f"/containers/{bomb}?force=1").status == 204


def test_a_container_beyond_its_memory_is_killed_and_says_so(own_daemon: Daemon) -> None:
    daemon = own_daemon
    hungry = start(
        daemon,
        "sh",
        "-c",
        "tail /dev/zero",
        HostConfig={"Memory": 16 << 20, "MemorySwap": 16 << 20},
    )
    assert wait(daemon, hungry) != 0
    assert state(daemon, hungry)["OOMKilled"] is True
    assert serves(daemon)


def test_a_container_that_ignores_sigterm_is_killed_after_its_time(own_daemon: Daemon) -> None:
    daemon = own_daemon
    stubborn = start(daemon, "sh", "-c", "trap '' TERM; while true; do sleep 0.1; done")
    assert daemon.request("POST", f"/containers/{stubborn}/stop?t=1").status == 204
    assert state(daemon, stubborn)["ExitCode"] == 137
    wanted = quote(json.dumps({"container": [stubborn], "event": ["kill"]}))
    told = daemon.request("GET", f"/events?since=1&until={time.time():.9f}&filters={wanted}")
    kills = [json.loads(line) for line in told.body.splitlines()]
    assert [kill["Actor"]["Attributes"]["signal"] for kill in kills] == ["15", "9"]
    assert kills[1]["timeNano"] - kills[0]["timeNano"] >= 10**9  # the program has had its time


@pytest.mark.parametrize(
    ("config", "status", "sentence"),
    [
        ({"Cmd": ["no-such-program"]}, 400, "executable file not found"),
        ({"Cmd": ["/etc/passwd"]}, 400, "permission denied"),
        ({"Cmd": ["true"], "User": "nobody-knows"}, 400, "nobody-knows"),
        ({"Cmd": ["true"], "WorkingDir": "/etc/passwd"}, 400, "/etc/passwd"),
        ({"Cmd": ["true"], "HostConfig": {"Binds": ["/no/such:relative"]}}, 400, "relative"),
        ({"Cmd": ["true"], "HostConfig": {"NetworkMode": "container:ghost"}}, 400, "ghost"),
        ({"Cmd": ["true"], "HostConfig": {"CapAdd": ["NOSUCHCAP"]}}, 400, "NOSUCHCAP"),
    ],
)
def test_a_refused_container_leaves_nothing_behind(
    daemon: Daemon, config: dict[str, Any], status: int, sentence: str
) -> None:
    before, container = traces(daemon), ""
    answer = daemon.request("POST", "/containers/create", {"Image": "busybox", **config})
    if answer.status == 201:
        container = answer.json["Id"]
        answer = daemon.request("POST", f"/containers/{container}/start")
        assert state(daemon, container)["Status"] == "created"
        assert daemon.request("DELETE", f"/containers/{container}").status == 204
    assert answer.status == status, answer.body
    assert sentence in answer.json["message"]
    assert not list(Path("/sys/fs/cgroup").glob(f"*/sampan/{container or 'none'}"))
    eventually(lambda: traces(daemon) == before)


def traces(daemon: Daemon) -> dict[str, set[str]]:
    """Return what containers leave on a host: mounts, interfaces, folders."""
    links = subprocess.run(
        [*daemon.enter, "ip", "-json", "link"], capture_output=True, check=True
    ).stdout
    mounts = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return {
        "mounts": {mount for mount in mounts if mount.startswith(str(daemon.folder))},
        # Pairs are prepared for the next containers; they belong to none.
        "interfaces": {
            link["ifname"] for link in json.loads(links) if link.get("ifalias") != "sampan:pool"
        },
        "containers": set(os.listdir(daemon.data_root / "containers"))
        if (daemon.data_root / "containers").exists()
        else set(),
    }


def test_a_full_disk_is_one_clear_sentence_and_no_harm() -> None:
    with running(data_size="24m") as daemon:  # a data root on a file system of its own
        daemon.import_image()
        container = start(daemon, "sh", "-c", "while true; do echo still here; sleep 0.05; done")
        ballast = daemon.data_root / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(1 << 12))
        answer = daemon.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})
        assert answer.status == 500, answer.body
        assert "no space left on device" in answer.json["message"].lower()
        assert state(daemon, container)["Running"]
        ballast.unlink()
        seen = len(lines(daemon, container))
        eventually(lambda: len(lines(daemon, container)) > seen)
        assert wait(daemon, start(daemon, "true")) == 0


def test_a_container_that_fills_the_disk_ends_and_can_be_removed() -> None:
    with running(data_size="24m") as daemon:
        daemon.import_image()
        container = start(daemon, "dd", "if=/dev/zero", "of=/big", "bs=64k", "count=1000")
        assert wait(daemon, container) == 1
        assert state(daemon, container)["Status"] == "exited"
        assert daemon.request("DELETE", f"/containers/{container}").status == 204
        wanted = {"Image": "busybox", "Cmd": ["true"]}  # files go away beside all else
        eventually(lambda: daemon.request("POST", "/containers/create", wanted).status == 201)
        assert wait(daemon, start(daemon, "true")) == 0
