"""The program sampand: its processes, privileges, sockets, restarts and limits."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.daemon import Daemon, running
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture
def own() -> Iterator[Daemon]:
    """A daemon that the test may hurt."""
    with running() as daemon:
        yield daemon


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# --- privileges --------------------------------------------------------------------------------


def test_the_process_that_serves_the_api_has_no_privilege(daemon: Daemon) -> None:
    found = status(daemon.parts()["api"])
    assert found["Uid"].split() != ["0"] * 4
    for sets in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[sets], 16) == 0
    assert found["NoNewPrivs"] == "1"
    assert "0" not in found["Groups"].split()


def test_only_root_and_the_group_may_connect(daemon: Daemon) -> None:
    info = os.stat(daemon.socket)
    assert stat.S_IMODE(info.st_mode) == 0o660
    assert info.st_uid == 0
    assert info.st_gid != 0


def test_the_parts_cannot_touch_what_is_not_theirs(daemon: Daemon) -> None:
    root = daemon.data_root
    assert stat.S_IMODE(root.stat().st_mode) == 0o1770
    assert stat.S_IMODE((root / "snapshots").stat().st_mode) & 0o077 == 0
    assert (root / "snapshots").stat().st_uid == 0
    database = (root / "database.sqlite").stat()
    assert database.st_uid != 0
    assert stat.S_IMODE(database.st_mode) == 0o600


# --- cost --------------------------------------------------------------------------------------


def test_all_processes_together_take_less_than_100_mb(own: Daemon) -> None:
    # Supervisor, API, storage, network, and two that start containers.
    taken = {}

    def is_at_rest() -> bool:  # what helps at the start has ended
        taken.clear()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in own.processes():
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        taken[f"{pid} {command}"] = int(line.split()[1])
        return len(taken) == len(own.processes()) == 6

    eventually(is_at_rest)
    assert sum(taken.values()) < 100 << 10, taken  # kilobytes


def test_an_idle_daemon_sleeps(daemon: Daemon) -> None:
    def switches() -> dict[int, str]:
        return {
            pid: status(pid)["voluntary_ctxt_switches"]
            for name, pid in daemon.parts().items()
            if name in ("supervisor", "api", "spawn", "mount")
        }

    eventually(lambda: _rests(switches))


def _rests(switches: object) -> bool:
    assert callable(switches)
    before = switches()
    time.sleep(1.0)
    return bool(before == switches())


def test_a_ping_wakes_the_api_process_alone_and_once(daemon: Daemon) -> None:
    def switches() -> dict[str, int]:
        return {
            name: int(status(pid)["voluntary_ctxt_switches"])
            for name, pid in daemon.parts().items()
            if name in ("supervisor", "api", "spawn", "mount")
        }

    def is_alone() -> bool:
        before = switches()
        for _ in range(200):
            sock.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        after = switches()
        return after.pop("api") - before.pop("api") < 300 and after == before

    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(daemon.socket)
        eventually(is_alone)  # what earlier tests have left to do may wake others meanwhile


# --- death and return --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mount", "network"])
def test_a_killed_helper_is_replaced_and_requests_work_again(own: Daemon, name: str) -> None:
    own.import_image()
    before = own.parts()[name]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: own.parts().get(name) not in (None, before))
    created = own.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})
    assert created.status == 201, created.body
    container = created.json["Id"]
    assert own.request("POST", f"/containers/{container}/start").status == 204


def test_a_killed_api_process_is_replaced_and_no_client_is_refused(own: Daemon) -> None:
    before = own.parts()["api"]
    os.kill(before, signal.SIGKILL)
    while os.path.exists(f"/proc/{before}/exe"):
        time.sleep(0.001)
    assert own.request("GET", "/_ping").body == b"OK"
    assert own.parts()["api"] != before


def test_without_its_supervisor_the_api_process_ends_and_a_new_daemon_starts(own: Daemon) -> None:
    api = own.parts()["api"]
    assert own.process is not None
    own.process.kill()
    own.process.wait()
    eventually(lambda: not os.path.exists(f"/proc/{api}/exe"))
    own.start()
    assert own.request("GET", "/info").status == 200


def test_a_second_daemon_on_the_same_data_root_is_refused(own: Daemon) -> None:
    other = own.folder / "other"
    command = [*own.enter, f"{sys.prefix}/bin/sampand", "--data-root", str(own.data_root)]
    command += ["--exec-root", str(other), "--host", f"unix://{other}/s", "--pidfile", ""]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode == 1
    assert f"another daemon is using the data root {own.data_root}" in second.stderr
    assert "Traceback" not in second.stderr
    assert own.request("GET", "/_ping").status == 200


@pytest.mark.parametrize(
    ("shared", "sentence"),
    [
        ("exec", "another daemon is using the exec root {}/exec"),
        ("other", "another daemon keeps its networks in this network namespace"),
    ],
)
def test_a_second_daemon_that_would_harm_the_first_is_refused(
    own: Daemon, shared: str, sentence: str
) -> None:
    def bridge() -> int:
        command = [*own.enter, "ip", "-j", "link", "show", "sampan0"]
        found = subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE).stdout
        return int(json.loads(found)[0]["ifindex"])

    before = bridge()
    other = own.folder / "other"
    command = [*own.enter, f"{sys.prefix}/bin/sampand", "--data-root", str(other / "data")]
    command += ["--exec-root", str(own.folder / shared), "--pidfile", ""]
    command += ["--host", f"unix://{other}/s"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode == 1
    assert sentence.format(own.folder) in second.stderr
    assert "Traceback" not in second.stderr
    assert bridge() == before
    assert own.request("GET", "/_ping").status == 200


def test_a_second_daemon_with_the_same_pid_file_is_refused(own: Daemon) -> None:
    other = own.folder / "other"
    command = [*own.enter, f"{sys.prefix}/bin/sampand", "--data-root", str(other / "data")]
    command += ["--exec-root", str(other), "--host", f"unix://{other}/s"]
    command += ["--pidfile", str(own.folder / "pid")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode == 1
    assert "ensure the daemon is not running or delete" in second.stderr


def test_sigterm_removes_socket_and_pid_file(own: Daemon) -> None:
    pid_file = own.folder / "pid"
    assert own.process is not None
    assert pid_file.read_text() == str(own.process.pid)
    process = own.process
    own.stop()
    assert process.returncode == 0
    assert not pid_file.exists()
    assert not os.path.exists(own.socket)
    own.start()


def test_an_unknown_user_is_refused_with_the_way_to_make_it(tmp_path: Path) -> None:
    command = [f"{sys.prefix}/bin/sampand", "--data-root", str(tmp_path), "--user", "nobody-here"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert failed.returncode == 1
    assert "the user nobody-here does not exist: make it with `useradd" in failed.stderr
    assert os.listdir(tmp_path) == []


# --- configuration -----------------------------------------------------------------------------


def test_sighup_applies_the_file_and_emits_an_event(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"labels": ["stage=one"]}))
    with running("--config-file", str(file)) as daemon:
        assert daemon.request("GET", "/info").json["Labels"] == ["stage=one"]
        file.write_text(json.dumps({"labels": ["stage=two"], "debug": True}))
        file.chmod(0o600)
        since = time.time() - 1
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: daemon.request("GET", "/info").json["Labels"] == ["stage=two"])
        assert daemon.request("GET", "/info").json["Debug"] is True
        events = daemon.request("GET", f"/events?since={since:.3f}&until={time.time():.3f}")
        assert [json.loads(line)["Action"] for line in events.body.splitlines()] == ["reload"]


# --- TCP and TLS -------------------------------------------------------------------------------


@contextlib.contextmanager
def inside(daemon: Daemon) -> Iterator[None]:
    """Be in the network namespace of the daemon."""
    with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{daemon.namespace}") as there:
        libc = __import__("ctypes").CDLL(None, use_errno=True)
        assert libc.setns(there.fileno(), 0x40000000) == 0
        try:
            yield
        finally:
            assert libc.setns(here.fileno(), 0x40000000) == 0


def test_plain_tcp_works_with_its_flag_and_info_warns() -> None:
    options = ["--insecure-tcp", "--host", "tcp://127.0.0.1:2375"]
    with running(*options) as daemon, inside(daemon):
        connection = http.client.HTTPConnection("127.0.0.1", 2375, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/info")
            warnings = json.loads(connection.getresponse().read())["Warnings"]
    assert any("tcp://127.0.0.1:2375 without encryption" in one for one in warnings)


def test_tls_asks_for_a_certificate_of_our_authority(tmp_path: Path) -> None:
    ours, strange = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ca"))
    server = ours.issue_cert("localhost")
    server.private_key_pem.write_to_path(str(tmp_path / "key"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    (tmp_path / "key").chmod(0o600)  # readable by root alone: read before privileges are dropped
    options = ["--tlsverify", "--tlscacert", f"{tmp_path}/ca", "--tlscert", f"{tmp_path}/cert"]
    options += ["--tlskey", f"{tmp_path}/key", "--host", "tcp://127.0.0.1:2376"]
    with running(*options) as daemon, inside(daemon):
        assert _ping_over_tls(ours, ours) == b"OK"
        for stranger in (strange, None):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _ping_over_tls(ours, stranger)
        assert daemon.request("GET", "/_ping").status == 200


def _ping_over_tls(server: trustme.CA, client: trustme.CA | None) -> bytes:
    context = ssl.create_default_context()
    server.configure_trust(context)
    if client is not None:
        client.issue_cert("admin@example.org").configure_cert(context)
    with socket.create_connection(("127.0.0.1", 2376), timeout=PATIENCE) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while piece := sock.recv(4096):
                data += piece
    return data.rpartition(b"\r\n\r\n")[2]


# --- socket activation -------------------------------------------------------------------------

ACTIVATE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(5)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


def test_a_socket_of_systemd_is_served_and_readiness_is_told(own: Daemon) -> None:
    own.stop()
    path, notify = f"{own.folder}/activated", f"{own.folder}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as watcher:
        watcher.bind(notify)
        watcher.settimeout(PATIENCE)
        command = [*own.enter, sys.executable, "-c", ACTIVATE, path, notify]
        command += [f"{sys.prefix}/bin/sampand", "--data-root", str(own.data_root)]
        command += ["--exec-root", str(own.folder / "exec"), "--pidfile", "", "--host", "fd://"]
        with open(own.folder / "log", "ab") as log:
            own.process = subprocess.Popen(command, stdout=log, stderr=log)
        assert b"READY=1" in watcher.recv(1000)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    own.stop()
    own.start()
