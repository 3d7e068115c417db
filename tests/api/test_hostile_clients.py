"""Clients that send nonsense, race one another, and containers that work against our copies."""

from __future__ import annotations

import io
import json
import random
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from sampan.spec.docker.containers import CreateRequest, UpdateRequest
from sampan.spec.docker.exec import ExecCreateRequest, ExecStartRequest
from sampan.spec.docker.networks import (
    NetworkConnectRequest,
    NetworkCreateRequest,
    NetworkDisconnectRequest,
)
from tests.daemon import Daemon, running
from tests.session import eventually

pytestmark = pytest.mark.privileged

TAR = {"Content-Type": "application/x-tar"}
NONSENSE: tuple[Any, ...] = (
    *(True, -1, 2**63, 1.5, "", "a\0b", "../../etc", "x" * 70_000),
    *([None], [1], ["a\0b"], {"": ""}, {"a\0": [{}]}),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Daemon]:
    with running() as daemon:
        daemon.import_image()
        yield daemon


def create(daemon: Daemon, *command: str, **host: Any) -> str:
    body = {"Image": "busybox", "Cmd": list(command), "HostConfig": host}
    answer = daemon.request("POST", "/containers/create", body)
    assert answer.status == 201, answer.body
    identifier: str = answer.json["Id"]
    return identifier


def start(daemon: Daemon, *command: str, **host: Any) -> str:
    container = create(daemon, *command, **host)
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status == 204, answer.body
    return container


def remove(daemon: Daemon, container: str) -> None:
    daemon.request("DELETE", f"/containers/{container}?force=1&v=1")


def execute(daemon: Daemon, container: str, *command: str) -> str:
    """Run a program in a container; return its output, the headers of frames cut off."""
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
    made = daemon.request("POST", f"/containers/{container}/exec", body)
    assert made.status == 201, made.body
    left = daemon.request("POST", f"/exec/{made.json['Id']}/start", {"Detach": False}).body
    output = b""
    while left:
        size = int.from_bytes(left[4:8], "big")
        output, left = output + left[8 : 8 + size], left[8 + size :]
    return output.decode(errors="replace")


def at_once(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- documents -----------------------------------------------------------------------------------


def documents(kind: Any, depth: int = 0) -> Iterator[Any]:
    """Yield documents in which one field, at any depth, is nonsense."""
    for field in msgspec.structs.fields(kind):
        for value in NONSENSE:
            yield {field.encode_name: value}
        for inner, wrap in structs(field.type) if depth < 2 else ():
            for document in documents(inner, depth + 1):
                yield {field.encode_name: wrap(document)}


def structs(kind: Any) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        yield from ((inner, lambda it: [it]) for inner, _ in structs(arguments[0]))
    elif origin is dict:
        yield from ((inner, lambda it: {"k": it}) for inner, _ in structs(arguments[1]))
    elif arguments:
        for argument in arguments:
            yield from structs(argument)
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, lambda it: it


@pytest.mark.parametrize(
    ("path", "kind", "rest"),
    [
        ("/containers/create", CreateRequest, {"Image": "busybox", "Cmd": ["true"]}),
        ("/containers/{target}/update", UpdateRequest, {}),
        ("/containers/{target}/exec", ExecCreateRequest, {"Cmd": ["true"]}),
        ("/exec/{exec}/start", ExecStartRequest, {"Detach": True}),
        ("/networks/create", NetworkCreateRequest, {}),
        ("/networks/bridge/connect", NetworkConnectRequest, {"Container": "nobody"}),
        ("/networks/bridge/disconnect", NetworkDisconnectRequest, {"Container": "nobody"}),
    ],
)
def test_no_document_is_a_fault_of_ours(
    path: str, kind: Any, rest: dict[str, Any], engine: Daemon
) -> None:
    target = start(engine, "sleep", "100")
    made = engine.request("POST", f"/containers/{target}/exec", {"Cmd": ["true"]}).json["Id"]
    path = path.format(target=target, exec=made)
    faults = []
    for document in documents(kind):
        answer = engine.request("POST", path, {**rest, **document})
        if answer.status >= 500 and answer.status != 501:
            faults.append((document, answer.body))
        elif answer.status >= 400:
            assert set(answer.json) == {"message"}
        elif path == "/networks/create":
            engine.request("DELETE", f"/networks/{answer.json['Id']}")
    engine.remove_containers()
    assert faults == []


# --- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("GET", "archive?path=/etc", None),
        ("GET", "export", None),
        ("PUT", "archive?path=/", b"\0" * 1024),
    ],
)
def test_a_copy_does_not_spoil_a_start(
    method: str, what: str, body: bytes | None, engine: Daemon
) -> None:
    container = create(engine, "sleep", "100")

    def copy(_: int) -> None:
        for _ in range(6):
            engine.request(method, f"/containers/{container}/{what}", body, TAR)

    copier = threading.Thread(target=at_once, args=(3, copy))
    copier.start()
    try:
        answer = engine.request("POST", f"/containers/{container}/start")
        script = "echo changed > /etc/passwd && mkdir /new && mv /new /old && cat /etc/passwd"
        output = execute(engine, container, "sh", "-c", script) if answer.status == 204 else ""
    finally:
        copier.join()
    remove(engine, container)
    assert (answer.status, answer.body, output) == (204, b"", "changed\n")


def test_a_copy_stays_inside_while_links_are_exchanged_cve_2018_15664(
    engine: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the host")
    swap = (
        f"mkdir /a; while :; do rm -rf /a/x; ln -s {tmp_path} /a/x; rm /a/x;"
        " ln -s /proc/1/root/tmp /a/x; rm /a/x; ln -s / /a/x; rm /a/x; mkdir /a/x;"
        " echo inside > /a/x/secret; done"
    )
    container = start(engine, "sh", "-c", swap)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("secret", "new/secret", f"..{tmp_path}/secret"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"pwn"))
    where = f"/containers/{container}/archive?path=/a/x"
    statuses = set()
    for _ in range(60):
        statuses.add(engine.request("PUT", where, packed.getvalue(), TAR).status)
        got = engine.request("GET", where)
        assert b"of the host" not in got.body
        statuses |= {got.status, engine.request("HEAD", f"{where}/secret").status}
    remove(engine, container)
    assert statuses <= {200, 400, 404}
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "of the host"


# --- what a container sees -----------------------------------------------------------------------


@pytest.mark.parametrize("is_exec", [False, True])
def test_a_program_has_three_descriptors_and_its_own_environment(
    is_exec: bool, engine: Daemon
) -> None:
    script = "ls /proc/$$/fd; tr '\\0' '\\n' < /proc/$$/environ | sort; readlink /proc/$$/cwd"
    if is_exec:
        container = start(engine, "sleep", "100")
        output = execute(engine, container, "sh", "-c", script)
    else:
        container = start(engine, "sh", "-c", script)
        engine.request("POST", f"/containers/{container}/wait")
        body = engine.request("GET", f"/containers/{container}/logs?stdout=1").body
        output = b"".join(line[8:] + b"\n" for line in body.splitlines()).decode()
    remove(engine, container)
    lines = output.splitlines()
    environment = [line.partition("=")[0] for line in lines if "=" in line]
    assert [line for line in lines if "=" not in line] == ["0", "1", "2", "/"]
    assert environment == ["HOME", "HOSTNAME", "PATH"]


# --- races ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["no", "always"])
def test_many_hands_on_one_container_leave_nothing(policy: str, engine: Daemon) -> None:
    host = {"PortBindings": {"80/tcp": [{"HostPort": ""}]}, "RestartPolicy": {"Name": policy}}
    container = create(engine, "sleep", "1000", **host)
    verbs = ["start", "start", "stop?t=0", "kill", "restart?t=0", "pause", "unpause", "top", "logs"]
    faults: list[tuple[str, bytes]] = []

    def work(number: int) -> None:
        choose = random.Random(number)
        for _ in range(12):
            verb = choose.choice(verbs)
            method = "GET" if verb in ("top", "logs") else "POST"
            answer = engine.request(method, f"/containers/{container}/{verb}")
            if answer.status >= 500:
                faults.append((verb, answer.body))

    at_once(20, work)
    remove(engine, container)
    assert faults == []
    assert engine.request("GET", f"/containers/{container}/json").status == 404
    folder = engine.folder
    for leftover in (
        folder / "data/containers" / container,
        engine.snapshots / container,
        folder / "exec/runtime" / container,
        *Path("/sys/fs/cgroup").glob(f"*/sampan/{container}"),
    ):
        eventually(lambda: not leftover.exists())  # noqa: B023
    endpoints = folder / "exec/network/endpoints"
    assert not [each for each in endpoints.iterdir() if container in each.read_text()]


def test_clients_that_never_read_hold_up_nobody(engine: Daemon) -> None:
    container = start(engine, "yes")
    idle = start(engine, "sleep", "100")
    clients = []
    for path in ("logs?follow=1&stdout=1", "stats", "export"):
        clients += [engine.connect() for _ in range(15)]
        for client in clients[-15:]:
            client.sendall(
                f"GET /containers/{container}/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
    assert execute(engine, idle, "echo", "here") == "here\n"
    assert engine.request("DELETE", f"/containers/{container}?force=1").status == 204
    for client in clients:
        client.close()
    remove(engine, idle)


def test_the_documents_of_one_connection_do_not_mix(engine: Daemon) -> None:
    hidden = b"DELETE /images/busybox HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\n"
    smuggling = (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(hidden) + 5),
        b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(hidden),
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    )
    for rest in smuggling:
        with engine.connect() as client:
            client.sendall(head + rest + hidden)
            answers = b""
            while piece := client.recv(1 << 16):
                answers += piece
        assert answers.count(b"HTTP/1.1 ") == 1, answers
        assert answers[9:12] in (b"400", b"501")
    assert json.loads(engine.request("GET", "/images/busybox/json").body)


def test_everything_is_gone_at_the_end(engine: Daemon) -> None:
    engine.remove_containers()
    eventually(lambda: not list((engine.folder / "data/containers").iterdir()))
