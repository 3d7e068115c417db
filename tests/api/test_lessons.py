"""The mistakes that other engines made with Docker's API, each as a test on a real daemon.

The classes are those of the release notes of engines that came before.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import Daemon
from tests.session import eventually

pytestmark = pytest.mark.privileged
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z")


def create(daemon: Daemon, *command: str, name: str = "", **config: Any) -> str:
    path = f"/containers/create?name={name}" if name else "/containers/create"
    body = {"Image": "busybox", "Cmd": list(command), **config}
    answer = daemon.request("POST", path, body)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def start(daemon: Daemon, *command: str, name: str = "", **config: Any) -> str:
    container = create(daemon, *command, name=name, **config)
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status == 204, answer.body
    return container


def wait(daemon: Daemon, container: str, condition: str = "") -> int:
    query = f"?condition={condition}" if condition else ""
    answer = daemon.request("POST", f"/containers/{container}/wait{query}")
    assert answer.status == 200, answer.body
    return int(answer.json["StatusCode"])


def inspect(daemon: Daemon, container: str) -> Any:
    return daemon.request("GET", f"/containers/{container}/json").json


class Raw:
    """One connection, with the bytes as they come."""

    def __init__(self, daemon: Daemon, request: str, body: bytes = b"") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(daemon.socket)
        head = f"{request} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.sock.sendall(head.encode() + b"\r\n" + body)
        self.early = b""
        self.head = self._head()

    def _head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(4096)
            assert piece, data
            data += piece
        head, _, self.early = data.partition(b"\r\n\r\n")
        return head

    def rest(self) -> bytes:
        data = self.early
        while piece := self.sock.recv(65536):
            data += piece
        return data

    def output(self) -> bytes:
        """Return what the frames carry until the end."""
        data, found = self.rest(), b""
        while data:
            size = int.from_bytes(data[4:8], "big")
            found, data = found + data[8 : 8 + size], data[8 + size :]
        return found

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


# --- null, empty, ids, formats -----------------------------------------------------------------


def test_lists_are_empty_and_never_null(daemon: Daemon) -> None:
    assert daemon.request("GET", "/containers/json").json == []
    assert daemon.request("GET", "/volumes").json["Volumes"] == []
    container = create(daemon, "true")
    found = inspect(daemon, container)
    assert found["Mounts"] == []
    assert found["NetworkSettings"]["Ports"] == {}
    assert found["Args"] == []
    (listed,) = daemon.request("GET", "/containers/json?all=1").json
    assert listed["Ports"] == []
    assert listed["Mounts"] == []
    assert listed["Labels"] == {}


def test_ids_have_their_prefix_everywhere(daemon: Daemon) -> None:
    container = create(daemon, "true")
    wanted = json.dumps({"reference": ["busybox:latest"]})
    (image,) = daemon.request("GET", f"/images/json?filters={quote(wanted)}").json
    assert re.fullmatch("sha256:[0-9a-f]{64}", image["Id"])
    assert daemon.request("GET", "/images/busybox/json").json["Id"] == image["Id"]
    assert daemon.request("GET", "/images/busybox/history").json[0]["Id"] == image["Id"]
    (listed,) = daemon.request("GET", "/containers/json?all=1").json
    assert listed["ImageID"] == image["Id"] == inspect(daemon, container)["Image"]
    assert listed["Image"] == "busybox"
    assert re.fullmatch("[0-9a-f]{64}", container)


def test_a_container_whose_process_is_gone_can_be_started(daemon: Daemon) -> None:
    """Also before the engine has taken back what it had: no 304, no streams of the run before."""
    container = create(daemon, "true")
    for _ in range(20):
        answer = daemon.request("POST", f"/containers/{container}/start")
        assert answer.status == 204
        pid = inspect(daemon, container)["State"]["Pid"]
        eventually(lambda pid=pid: not pid or not os.path.exists(f"/proc/{pid}"))


def test_times_are_text_in_inspect_and_numbers_in_lists(daemon: Daemon) -> None:
    container = create(daemon, "true")
    assert RFC3339.fullmatch(inspect(daemon, container)["Created"])
    (listed,) = daemon.request("GET", "/containers/json?all=1").json
    assert abs(listed["Created"] - time.time()) < 60
    assert inspect(daemon, container)["State"]["StartedAt"] == "0001-01-01T00:00:00Z"


def test_states_have_dockers_names(daemon: Daemon) -> None:
    def state() -> tuple[str, str]:
        (listed,) = daemon.request("GET", "/containers/json?all=1").json
        assert inspect(daemon, container)["State"]["Status"] == listed["State"]
        return listed["State"], listed["Status"]

    container = create(daemon, "sleep", "60")
    assert state() == ("created", "Created")
    daemon.request("POST", f"/containers/{container}/start")
    assert state()[0] == "running"
    assert state()[1].startswith("Up ")
    daemon.request("POST", f"/containers/{container}/pause")
    assert state()[0] == "paused"
    assert state()[1].endswith("(Paused)")
    daemon.request("POST", f"/containers/{container}/unpause")
    daemon.request("POST", f"/containers/{container}/kill")
    wait(daemon, container)
    assert state()[0] == "exited"
    assert state()[1].startswith("Exited (137) ")


def test_the_version_is_one_that_tools_can_compare(daemon: Daemon) -> None:
    version = daemon.request("GET", "/version").json
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+[0-9A-Za-z.]+)?", version["Version"])
    assert re.fullmatch(r"1\.\d+", version["ApiVersion"])
    assert version["MinAPIVersion"] == "1.24"
    assert daemon.request("GET", "/info").json["ServerVersion"] == version["Version"]


def test_statistics_have_what_clients_compute_with(daemon: Daemon) -> None:
    container = start(daemon, "sleep", "60", name="counted")
    found = daemon.request("GET", f"/containers/{container}/stats?stream=false").json
    assert found["id"] == container
    assert found["name"] == "/counted"
    assert found["cpu_stats"]["online_cpus"] >= 1
    assert found["memory_stats"]["limit"] > 0
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_top_splits_columns_and_keeps_the_command_whole(daemon: Daemon) -> None:
    container = start(daemon, "sh", "-c", "sleep 60; true")
    found = daemon.request("GET", f"/containers/{container}/top").json
    assert found["Titles"][:2] == ["UID", "PID"]
    assert {len(row) for row in found["Processes"]} == {len(found["Titles"])}
    assert any(row[-1] == "sh -c sleep 60; true" for row in found["Processes"])


# --- status codes and messages -----------------------------------------------------------------


def test_states_that_are_there_already_are_not_modified(daemon: Daemon) -> None:
    container = start(daemon, "sleep", "60")
    assert daemon.request("POST", f"/containers/{container}/start").status == 304
    assert daemon.request("POST", f"/containers/{container}/stop?t=0").status == 204
    assert daemon.request("POST", f"/containers/{container}/stop").status == 304


def test_conflicts_are_409_and_missing_things_404(daemon: Daemon) -> None:
    container = start(daemon, "sleep", "60", name="taken")
    body = {"Image": "busybox", "Cmd": ["true"]}
    taken = daemon.request("POST", "/containers/create?name=taken", body)
    assert taken.status == 409
    assert 'The container name "/taken" is already in use by container' in taken.json["message"]
    assert daemon.request("DELETE", f"/containers/{container}").status == 409
    assert daemon.request("DELETE", "/images/busybox").status == 409
    missing = daemon.request("POST", "/containers/create", {"Image": "nothing"})
    assert (missing.status, missing.json["message"]) == (404, "No such image: nothing:latest")
    gone = daemon.request("GET", "/containers/nothing/json")
    assert (gone.status, gone.json["message"]) == (404, "No such container: nothing")
    daemon.request("POST", f"/containers/{container}/kill")
    wait(daemon, container)
    assert daemon.request("POST", f"/containers/{container}/kill").status == 409


def test_a_missing_program_is_a_bad_request_that_leaves_the_container_created(
    daemon: Daemon,
) -> None:
    container = create(daemon, "/no/such/program")
    failed = daemon.request("POST", f"/containers/{container}/start")
    assert failed.status == 400
    assert "/no/such/program" in failed.json["message"]
    state = inspect(daemon, container)["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127)


# --- flushing, waiting, events -----------------------------------------------------------------


def test_heads_come_before_data(daemon: Daemon) -> None:
    container = start(daemon, "sleep", "60")
    for request in (
        "GET /events",
        f"GET /containers/{container}/logs?stdout=1&follow=1",
        f"POST /containers/{container}/wait?condition=next-exit",
    ):
        with Raw(daemon, request) as connection:
            assert connection.head.startswith(b"HTTP/1.1 200 OK")


def test_a_wait_that_was_registered_before_the_start_sees_the_exit(daemon: Daemon) -> None:
    for condition in ("next-exit", "removed"):
        container = create(daemon, "sh", "-c", "exit 4", HostConfig={"AutoRemove": True})
        request = f"POST /containers/{container}/wait?condition={condition}"
        with Raw(daemon, request) as connection:
            assert daemon.request("POST", f"/containers/{container}/start").status == 204
            data = connection.early
            while b'"StatusCode":4' not in data:
                piece = connection.sock.recv(4096)
                assert piece, data
                data += piece


def test_events_have_dockers_names_and_attributes(daemon: Daemon) -> None:
    since = time.time()
    container = start(daemon, "sh", "-c", "exit 5", name="short")
    wait(daemon, container)
    daemon.request("DELETE", f"/containers/{container}")
    filters = quote(json.dumps({"container": ["short"], "type": ["container"]}))
    answer = daemon.request(
        "GET", f"/events?since={since:.6f}&until={time.time():.6f}&filters={filters}"
    )
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert [event["Action"] for event in events] == ["create", "start", "die", "destroy"]
    died = events[2]
    assert died["Actor"]["Attributes"]["exitCode"] == "5"
    assert died["status"] == "die"
    assert died["timeNano"] // 10**9 == died["time"]


# --- attach and exec ---------------------------------------------------------------------------


def test_the_end_of_stdin_reaches_the_process_and_its_answer_comes_back(daemon: Daemon) -> None:
    container = create(
        daemon, "sh", "-c", "cat; echo over", OpenStdin=True, StdinOnce=True, AttachStdin=True
    )
    path = f"POST /containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    with Raw(daemon, path) as connection:
        daemon.request("POST", f"/containers/{container}/start")
        connection.sock.sendall(b"typed\n")
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.output() == b"typed\nover\n"
    assert wait(daemon, container) == 0


def test_no_output_is_lost_when_a_process_ends_at_once(daemon: Daemon) -> None:
    for _ in range(5):
        container = create(daemon, "seq", "2000")
        path = f"POST /containers/{container}/attach?stream=1&stdout=1&stderr=1"
        with Raw(daemon, path) as connection:
            daemon.request("POST", f"/containers/{container}/start")
            assert connection.output().split() == [str(n).encode() for n in range(1, 2001)]


def test_an_exec_carries_its_streams_and_its_exit_code(daemon: Daemon) -> None:
    container = start(daemon, "sleep", "60")
    body = {"Cmd": ["sh", "-c", "cat; echo err >&2; exit 6"]}
    body |= {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    exec_id = daemon.request("POST", f"/containers/{container}/exec", body).json["Id"]
    with Raw(daemon, f"POST /exec/{exec_id}/start", b'{"Detach":false}') as connection:
        assert connection.head.startswith(b"HTTP/1.1 101 UPGRADED")
        connection.sock.sendall(b"in\n")
        connection.sock.shutdown(socket.SHUT_WR)
        assert sorted(connection.output().split()) == [b"err", b"in"]
    found = daemon.request("GET", f"/exec/{exec_id}/json").json
    assert (found["ExitCode"], found["Running"]) == (6, False)
    assert found["ContainerID"] == container


def test_two_clients_see_the_same_output(daemon: Daemon) -> None:
    container = create(daemon, "sh", "-c", "echo both")
    path = f"POST /containers/{container}/attach?stream=1&stdout=1"
    outputs: list[bytes] = []
    with Raw(daemon, path) as first, Raw(daemon, path) as second:
        threads = [
            threading.Thread(target=lambda one=one: outputs.append(one.output()))
            for one in (first, second)
        ]
        for thread in threads:
            thread.start()
        daemon.request("POST", f"/containers/{container}/start")
        for thread in threads:
            thread.join()
    assert outputs == [b"both\n", b"both\n"]


# --- queries and versions ----------------------------------------------------------------------


def test_a_limit_below_one_is_no_limit(daemon: Daemon) -> None:
    for _ in range(2):
        create(daemon, "true")
    for limit, count in ((-1, 2), (0, 2), (1, 1)):
        path = f"/containers/json?all=1&limit={limit}"
        assert len(daemon.request("GET", path).json) == count


def test_both_spellings_of_filters_are_understood(daemon: Daemon) -> None:
    wanted = create(daemon, "true", Labels={"kind": "wanted"})
    create(daemon, "true")
    for filters in ({"label": ["kind=wanted"]}, {"label": {"kind=wanted": True}}):
        path = f"/containers/json?all=1&filters={quote(json.dumps(filters))}"
        assert [one["Id"] for one in daemon.request("GET", path).json] == [wanted]


@pytest.mark.parametrize(
    "version", ["1.24", "1.30", "1.40", "1.41", "1.43", "1.44", "1.47", "1.51"]
)
def test_every_version_can_run_a_container(daemon: Daemon, version: str) -> None:
    base = f"/v{version}/containers"
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "exit 2"]}
    container = daemon.request("POST", f"{base}/create", body).json["Id"]
    assert daemon.request("POST", f"{base}/{container}/start").status == 204
    assert daemon.request("POST", f"{base}/{container}/wait").json["StatusCode"] == 2
    assert daemon.request("GET", f"{base}/{container}/json").json["State"]["ExitCode"] == 2
    assert daemon.request("GET", f"{base}/json?all=1").json[0]["Id"] == container
    assert daemon.request("DELETE", f"{base}/{container}").status == 204


def test_an_empty_entrypoint_clears_that_of_the_image(daemon: Daemon) -> None:
    container = create(daemon, "echo", "hello", Entrypoint=[])
    found = inspect(daemon, container)
    assert (found["Path"], found["Args"]) == ("echo", ["hello"])
