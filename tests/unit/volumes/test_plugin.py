"""Volume plug-ins, honest and other ones, on the other end of a socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sampan.errors import Internal, InvalidArgument, NotFound, SampanError, Unavailable
from sampan.volumes.plugin import LONGEST, PluginDriver

Script = Callable[[str, dict[str, Any]], bytes]


def answer(body: object, status: str = "200 OK") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


@contextmanager
def plugin(script: Script, seconds: float = 5.0) -> Iterator[PluginDriver]:
    """Return a driver whose plug-in answers as the script says, one connection for each call."""
    threads = []

    def serve(sock: socket.socket) -> None:
        with sock:
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += sock.recv(65536)
            path = head.split(b" ")[1].decode()
            reply = script(path, json.loads(body))
            try:
                sock.sendall(reply)
                if not reply:
                    sock.recv(1)  # says nothing until the client has had enough
            except OSError:
                pass

    def dial() -> socket.socket:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=serve, args=(theirs,))
        thread.start()
        threads.append(thread)
        return ours

    yield PluginDriver("remote", dial, ["/data"], seconds)
    for thread in threads:
        thread.join()


class Honest:
    """A plug-in as it should be; keeps what it was asked."""

    def __init__(self, place: str = "/mnt/volumes/data") -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.place = place

    def __call__(self, path: str, body: dict[str, Any]) -> bytes:
        self.asked.append((path, body))
        volume = {"Name": body.get("Name", ""), "Mountpoint": self.place, "Status": {"a": 1}}
        replies: dict[str, Any] = {
            "/Plugin.Activate": {"Implements": ["VolumeDriver"]},
            "/VolumeDriver.Capabilities": {"Capabilities": {"Scope": "global"}},
            "/VolumeDriver.Mount": {"Mountpoint": self.place, "Err": ""},
            "/VolumeDriver.Path": {"Mountpoint": self.place, "Err": ""},
            "/VolumeDriver.Get": {"Volume": volume, "Err": ""},
            "/VolumeDriver.List": {"Volumes": [volume | {"Name": "data"}], "Err": ""},
        }
        return answer(replies.get(path, {"Err": ""}))


def test_the_protocol_is_docker_s() -> None:
    honest = Honest()
    with plugin(honest) as driver:
        driver.activate()
        driver.create("data", {"size": "1"})
        assert driver.mount("data", {}, "c1").source == "/mnt/volumes/data"
        driver.unmount("data", {}, "c1", last=True)
        assert driver.path("data") == "/mnt/volumes/data"
        assert driver.status("data") == {"a": 1}
        assert [each.name for each in driver.volumes()] == ["data"]
        driver.remove("data")
    assert driver.scope == "global"
    assert honest.asked == [
        ("/Plugin.Activate", {}),
        ("/VolumeDriver.Capabilities", {}),
        ("/VolumeDriver.Create", {"Name": "data", "Opts": {"size": "1"}}),
        ("/VolumeDriver.Mount", {"Name": "data", "ID": "c1"}),
        ("/VolumeDriver.Unmount", {"Name": "data", "ID": "c1"}),
        ("/VolumeDriver.Path", {"Name": "data"}),
        ("/VolumeDriver.Get", {"Name": "data"}),
        ("/VolumeDriver.List", {}),
        ("/VolumeDriver.Remove", {"Name": "data"}),
    ]


def test_a_plugin_for_something_else_is_no_volume_driver() -> None:
    reply = answer({"Implements": ["NetworkDriver"]})
    with plugin(lambda *_: reply) as driver, pytest.raises(NotFound, match="does not implement"):
        driver.activate()


def test_a_plugin_may_not_know_capabilities() -> None:
    def script(path: str, body: dict[str, Any]) -> bytes:
        if path == "/Plugin.Activate":
            return answer({"Implements": ["VolumeDriver"]})
        return answer(b"404 page not found", "404 Not Found")

    with plugin(script) as driver:
        driver.activate()
        assert driver.scope == "local"


@pytest.mark.parametrize(
    "place",
    [
        *("", "relative/data", "/", "//", "/mnt/../etc", "/mnt/", "/mnt//data", "/mnt/\0data"),
        *("/proc", "/proc/1/root/etc", "/sys/kernel", "/dev", "/dev/shm"),
        *("/data", "/data/volumes/other/_data", "/run", "/run/docker/plugins"),
    ],
)
def test_a_plugin_that_lies_about_where_data_is_gives_the_container_nothing(place: str) -> None:
    honest = Honest(place)
    with plugin(honest) as driver:
        with pytest.raises(InvalidArgument, match="where no volume is"):
            driver.mount("data", {}, "c1")
    assert honest.asked[-1] == ("/VolumeDriver.Unmount", {"Name": "data", "ID": "c1"})


def test_an_error_of_the_plugin_is_told_in_its_words() -> None:
    with plugin(lambda *_: answer({"Err": "out of shelves"})) as driver:
        with pytest.raises(Internal, match=r"^out of shelves$"):
            driver.create("data", {})
    failed = answer(b"boom", "500 Internal Server Error")
    with plugin(lambda *_: failed) as driver:
        with pytest.raises(Internal, match=r"^VolumeDriver\.Create: boom$"):
            driver.create("data", {})


def test_a_plugin_that_says_nothing_is_given_up() -> None:
    with plugin(lambda *_: b"", seconds=0.1) as driver:
        with pytest.raises(Unavailable, match="the plugin remote did not answer"):
            driver.create("data", {})


def test_a_plugin_that_is_dead_says_so() -> None:
    def dial() -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours

    with pytest.raises(Unavailable, match="did not answer"):
        PluginDriver("remote", dial).create("data", {})


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        answer(b"not json"),
        answer(b"[]"),
        answer({"Volumes": 7, "Mountpoint": "/mnt/x"}),
        answer({"Mountpoint": ["/mnt/x"]}),
        answer(b"[" * 100_000),
        answer(b'{"Err": "' + b"x" * (LONGEST + 10) + b'"}'),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
    ],
    ids=["ssh", "text", "list", "types", "types2", "depth", "long", "head", "switch", "short"],
)
def test_nonsense_is_an_error_and_nothing_more(reply: bytes) -> None:
    with plugin(lambda *_: reply, seconds=1.0) as driver:
        with pytest.raises(SampanError):
            driver.mount("data", {}, "c1")


def test_another_volume_than_the_one_asked_for_is_none() -> None:
    with plugin(lambda *_: answer({"Volume": {"Name": "other"}})) as driver:
        with pytest.raises(NotFound, match="get data: no such volume"):
            driver.get("data")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 256])
def test_a_name_that_no_volume_has_does_not_reach_the_plugin(name: str) -> None:
    def dial() -> socket.socket:
        raise AssertionError("nobody was to be asked")

    with pytest.raises(InvalidArgument):
        PluginDriver("remote", dial).check(name, {})
