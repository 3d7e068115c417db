"""Clients that want to harm what holds the images: odd names, credentials and archives, sloth."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from concurrent.futures import wait
from urllib.parse import quote

import pytest

from tests import ordeals
from tests.daemon import Daemon, running
from tests.lying_registry import LyingRegistry, lying_registry
from tests.ordeals import check, pull
from tests.remote_images import busybox, image, layer, push, small_layer
from tests.session import eventually
from tests.tarballs import archive, file, folder, hardlink

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

MIB = 1 << 20
LIMIT = 150 * MIB  # of the whole daemon, whatever an image holds


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


@pytest.fixture
def liar(daemon: Daemon) -> Iterator[LyingRegistry]:
    """A registry that has `a/b:1`."""
    before = ordeals.at_rest(daemon)
    with lying_registry(daemon.namespace) as liar:
        push(liar, "a/b", "1", busybox(small_layer("x", bytes(8 * MIB))))
        yield liar
    ordeals.forget(daemon)
    ordeals.settles(daemon, before)
    check(daemon)
    assert "Traceback" not in daemon.log


NAMES = [
    "a\x00b", "a\nb", "a\x1b[31m", "é", "A/B", "a" * 300, "a/" * 200 + "a", "127.0.0.1:0/x",
    "localhost:99999/x", "user:secret@host.example/x", "x@sha256:" + "0" * 63, "x@md5:" + "0" * 32,
    "../../etc", "//x", "x:../y", "http://127.0.0.1/x", "127.0.0.1:1/x/../../y", "x@", "@", ":", "",
    "0" * 64,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_what_is_no_name_is_refused_before_anybody_is_asked(daemon: Daemon, name: str) -> None:
    answer = daemon.request("POST", f"/images/create?fromImage={quote(name, safe='')}")
    assert answer.status == 400
    assert answer.json["message"]


def encoded(document: bytes) -> str:
    return base64.urlsafe_b64encode(document).decode()


CREDENTIALS = {
    "no base64": "%%%",
    "long": "A" * 60_000,
    "null": encoded(b"null"),
    "a list": encoded(b"[]"),
    "deep": encoded(b"[" * 20_000),
    "other types": encoded(b'{"username":1,"password":{}}'),
    "lines in a name": encoded(b'{"username":"a\\r\\nX: y","password":"b"}'),
    "lines in a token": encoded(b'{"registrytoken":"a\\r\\nX: y"}'),
    "of another registry": encoded(b'{"username":"u","password":"p","serveraddress":"evil"}'),
}


@pytest.mark.parametrize("given", CREDENTIALS)
def test_odd_credentials_harm_nobody(daemon: Daemon, liar: LyingRegistry, given: str) -> None:
    ended = pull(daemon, f"{liar.address}/a/b:1", auth=CREDENTIALS[given])
    assert ended.error == "" or "invalid header" in ended.error
    assert pull(daemon, f"{liar.address}/a/b:1").error == ""


def test_credentials_that_are_too_large_are_refused(daemon: Daemon) -> None:
    answer = daemon.request("GET", "/images/json", headers={"X-Registry-Auth": "A" * MIB})
    assert answer.status == 431
    assert daemon.request("GET", "/_ping").status == 200


def test_clients_that_do_not_read_what_they_save_hold_nobody_up(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    name = f"{liar.address}/a/b:1"
    assert pull(daemon, name).error == ""
    before = set(daemon.processes())
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(contextlib.closing(daemon.connect()))
            client.sendall(f"GET /images/{name}/get HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
        assert daemon.request("GET", "/images/json").status == 200
        assert ordeals.import_(daemon, archive(file("f", b"1")), "meanwhile").error == ""
        assert pull(daemon, name).error == ""
        assert daemon.request("DELETE", f"/images/{name}?force=1").status == 200
    eventually(lambda: set(daemon.processes()) <= before)


def empty_files(count: int) -> bytes:
    """Return an archive of empty files with long names, in many folders."""
    members = [folder("d")]
    for number in range(count):
        if number % 2000 == 0:
            members.append(folder(f"d/{number // 2000}"))
        members.append(file(f"d/{number // 2000}/a-file-with-a-rather-long-name-{number}"))
    return archive(*members)


SHAPES = {
    "many files": lambda: empty_files(30_000),
    "many links": lambda: archive(file("a"), *(hardlink(f"l{n}", "a") for n in range(30_000))),
    "many whiteouts": lambda: archive(*(file(f".wh.f{n}") for n in range(30_000))),
    "zeros": lambda: archive(file("zeros", bytes(256 * MIB))),
    "zeros after its end": lambda: archive(file("f")) + bytes(256 * MIB),
}


@pytest.fixture(scope="module")
def rested() -> Iterator[Daemon]:
    """A daemon that nobody has burdened: what it once needed it may keep."""
    with running() as daemon:
        yield daemon


@pytest.mark.parametrize("shape", SHAPES)
def test_a_small_layer_that_unpacks_to_much_is_no_danger_to_memory(
    rested: Daemon, shape: str
) -> None:
    peak = 0
    with lying_registry(rested.namespace) as liar:
        push(liar, "a/much", "1", image(layer(SHAPES[shape]())))
        name = f"{liar.address}/a/much:1"
        with ordeals.meanwhile(lambda: pull(rested, name)) as pulling:
            while wait([pulling], 0.1).not_done:
                peak = max(peak, ordeals.memory(rested))
            assert pulling.result().error == ""
    assert peak < LIMIT
