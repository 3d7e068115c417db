"""We enter a hostile container: execs, copies, look-ups; and clients hijack connections.

Every row of docs/explanation/security.md names its test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests import tarballs
from tests.daemon import Daemon
from tests.inside import create, execute, started
from tests.session import eventually

pytestmark = pytest.mark.privileged

TRAPS = (
    "umount /dev/pts /dev/shm; rm -rf /dev/null /dev/tty /dev/console /dev/ptmx;"
    " mkfifo /dev/null /dev/tty /dev/console /dev/pts/ptmx; ln -s /proc/1/root /dev/ptmx;"
    " mkdir /fake; for n in 1 2 3 4 self; do mkdir -p /fake/$n/attr /fake/$n/fd;"
    " mkfifo /fake/$n/attr/exec /fake/$n/fd/0; done; mount --bind /fake /proc;"
    " mkfifo /pipe; touch /ready; sleep 1000"
)


@pytest.fixture
def trapped(daemon: Daemon) -> Iterator[str]:
    """A privileged container that has replaced all that an entering process could use."""
    with started(daemon, TRAPS, Privileged=True) as container:
        eventually(lambda: execute(daemon, container, "test -e /ready").code == 0)
        yield container


def test_cve_2025_52881_an_exec_trusts_nothing_that_is_mounted_inside(
    daemon: Daemon, trapped: str
) -> None:
    """No /proc, no /dev/null of the container is used on the way in, and no FIFO waited for."""
    assert execute(daemon, trapped, "echo in").out == "in\n"
    seen = execute(daemon, trapped, "id -u", User="daemon")
    assert seen.out == "1\n"
    assert execute(daemon, trapped, "cat", Privileged=True).code == 0  # stdin is at its end


def test_cve_2025_52565_a_terminal_of_the_container_is_one(daemon: Daemon, trapped: str) -> None:
    seen = execute(daemon, trapped, "tty", Tty=True)
    assert seen.code == 126


def test_a_trapped_container_answers_and_is_copied_from(daemon: Daemon, trapped: str) -> None:
    for question in ("top", "stats?stream=0", "changes", "logs?stdout=1", "json?size=1"):
        assert daemon.request("GET", f"/containers/{trapped}/{question}").status == 200
    archive = tarballs.archive(tarballs.file("pipe", b"x"))
    head = {"Content-Type": "application/x-tar"}
    for path in ("/pipe", "/dev", "/proc/self/fd", "/proc/1", "/fake"):
        query = f"/containers/{trapped}/archive?path={path}"
        assert daemon.request("GET", query).status in (200, 404)
        assert daemon.request("PUT", query, archive, head).status in (200, 400, 404)


def test_cve_2024_21626_no_descriptor_of_an_exec_is_a_working_directory(daemon: Daemon) -> None:
    with started(daemon, "sleep 1000") as container:
        for number in range(3, 16):
            for folder in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}"):
                seen = execute(daemon, container, "pwd", WorkingDir=folder)
                assert seen.code == 126, (folder, seen)
        seen = execute(daemon, container, "ls -d /proc/$$/fd/[3-9]*; pwd", WorkingDir="/../..")
        assert seen.out == "/\n"


def test_cve_2016_9962_an_exec_cannot_be_traced_on_its_way(daemon: Daemon) -> None:
    """A program looks, all the time, into every new process; it never sees anything of ours."""
    look = (
        "while :; do for f in /proc/[0-9]*/exe /proc/[0-9]*/cwd /proc/[0-9]*/fd/*;"
        " do readlink $f; done >>/seen 2>/dev/null; done"
    )
    with started(daemon, f"{look} & sleep 1000") as container:
        for _ in range(30):
            assert execute(daemon, container, "true").code == 0
        seen = set(execute(daemon, container, "sort -u /seen").lines)
    assert "/bin/busybox" in seen
    own = ("/", "/bin/", "/proc/", "/dev/", "/seen", "pipe:[")
    foreign = [line for line in seen if not line.startswith(own)]
    assert foreign == []
    assert not [line for line in seen if "python" in line or str(daemon.folder) in line]


@pytest.mark.parametrize("terminal", [False, True])
def test_cve_2016_9962_a_tracer_sees_no_file_of_the_host_in_an_exec(
    daemon: Daemon, terminal: bool
) -> None:
    """With CAP_SYS_PTRACE, /proc/PID/root and /proc/PID/fd of all that enters can be opened."""
    host = daemon.folder.name
    look = (
        f"while :; do for p in /proc/[0-9]*; do [ -e $p/root/var/tmp/{host} ] && echo $p >>/hit;"
        " for f in $p/fd/*; do readlink $f; [ -d $f/etc ] && ls $f/etc; done >>/seen; done; done"
    )
    with started(daemon, f"({look}) 2>/dev/null & sleep 1000", CapAdd=["SYS_PTRACE"]) as container:
        for _ in range(40):
            assert execute(daemon, container, "true", Tty=terminal).code == 0
        assert execute(daemon, container, "cat /hit").out == ""
        seen = set(execute(daemon, container, "sort -u /seen").lines)
    own = ("/dev/", "/proc/", "/seen", "/hit", "pipe:", "socket:", "/bin/", "/", "anon_inode:")
    assert [line for line in seen if line.startswith("/") and host in line] == []
    assert not [line for line in seen if not line.startswith(own) and line == "shadow"]


@pytest.mark.parametrize("way", ["pid", "exec"])
def test_cve_2019_5736_no_program_of_ours_is_written_from_inside(daemon: Daemon, way: str) -> None:
    """Whatever /proc/PID/exe of a process of ours shows inside, it cannot be opened to write."""
    script = (
        "while :; do for p in /proc/[0-9]*; do [ $(readlink $p/exe) = /bin/busybox ] ||"
        " (echo evil >>$p/exe && echo $p >>/written); done 2>/dev/null; done"
    )
    with started(daemon, script) as container:
        for _ in range(20):
            assert execute(daemon, container, "true").code == 0
        if way == "pid":
            other = create(daemon, "true", PidMode=f"container:{container}")
            assert daemon.request("POST", f"/containers/{other}/start").status == 204
        assert execute(daemon, container, "cat /written").code == 1


def test_no_end_of_a_container_is_held_up_by_one_that_keeps_its_streams(daemon: Daemon) -> None:
    keep = (
        "while :; do for p in /proc/[0-9]*; do grep -q 'sleep.1[.]14' $p/cmdline 2>/dev/null &&"
        " exec sleep 1000 8<>$p/fd/1 9<>$p/fd/2; done; done"
    )
    with started(daemon, keep) as keeper:
        mode = {"PidMode": f"container:{keeper}"}
        with started(daemon, "exec sleep 1.14", **mode) as container:
            answer = daemon.request("POST", f"/containers/{container}/wait")
            assert answer.json["StatusCode"] == 0
            path = f"/containers/{container}?force=1"
            assert daemon.request("DELETE", path).status == 204


# --- clients --------------------------------------------------------------------------------------


def test_bytes_after_a_hijack_are_input_and_never_a_request(daemon: Daemon) -> None:
    """What follows an upgrade on the wire belongs to the program, also if it reads like HTTP."""
    name = f"cat{os.getpid()}"
    hidden = f"DELETE /containers/{name}?force=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    body: dict[str, Any] = {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True}
    body["StdinOnce"] = True
    made = daemon.request("POST", f"/containers/create?name={name}", body)
    assert made.status == 201
    assert daemon.request("POST", f"/containers/{name}/start").status == 204
    with daemon.connect() as client:
        head = f"POST /containers/{name}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
        client.sendall(head.encode() + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + hidden)
        client.shutdown(1)
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert hidden in answer
    assert daemon.request("GET", f"/containers/{name}/json").status == 200


@pytest.mark.parametrize(
    "head", ["Connection: Upgrade\r\nUpgrade: h2c\r\n", "Upgrade: tcp\r\n", ""]
)
def test_only_streams_are_hijacked(daemon: Daemon, head: str) -> None:
    """Other routes ignore the wish; a request that follows is read as one, with its own answer."""
    first = f"GET /_ping HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode()
    second = b"GET /containers/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with daemon.connect() as client:
        client.sendall(first + second)
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"101" not in answer[:64]
