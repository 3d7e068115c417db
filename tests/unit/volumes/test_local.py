"""Local volumes: names, options, and what is mounted on their folders."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.runtime import Mount
from sampan.volumes.local import LocalDriver, check_name


class Folders:
    """Notes what was asked for."""

    def __init__(self) -> None:
        self.mounted: list[Mount] = []
        self.unmounted: list[str] = []
        self.made: list[tuple[str, int]] = []
        self.failure = ""

    def make_volume(self, name: str, size: int = 0) -> None:
        self.made.append((name, size))

    def remove_volume(self, name: str) -> None:
        self.made = [each for each in self.made if each[0] != name]

    def mount_volume(self, name: str, mount: Mount) -> None:
        if self.failure:
            raise InvalidArgument(self.failure)
        self.mounted.append(mount)

    def unmount_volume(self, name: str) -> None:
        self.unmounted.append(name)


def resolve(host: str) -> str:
    if host == "nowhere":
        raise socket.gaierror(-2, "Name or service not known")
    return "192.0.2.7"


@pytest.fixture
def folders() -> Folders:
    return Folders()


@pytest.fixture
def driver(folders: Folders) -> LocalDriver:
    return LocalDriver(folders, Path("/var/lib/sampan"), resolve)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a", "volume name is too short, names should be at least two alphanumeric characters"),
        ("a/b", '"a/b" includes invalid characters for a local volume name, only'),
        ("..", "If you intended to pass a host directory, use absolute path"),
        (".trash", "includes invalid characters"),
        ("a\n", "includes invalid characters"),
        ("x" * 256, "volume name is too long"),
    ],
)
def test_a_wrong_name_is_refused_in_docker_s_words(name: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_name(name)
    assert sentence in str(refused.value)


@given(st.text())
def test_a_name_that_is_accepted_is_one_component_of_a_path(name: str) -> None:
    try:
        check_name(name)
    except InvalidArgument:
        return
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"colour": "red"}, 'invalid option: "colour"'),
        ({"type": "nfs"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"o": "bind"}, 'missing required option: "device"'),
        ({"size": "lots"}, "invalid size: 'lots'"),
        (
            {"type": "cifs", "device": "//server:445/share"},
            "port not allowed in CIFS device URL, include 'port' in 'o='",
        ),
        ({"type": "cifs", "device": "//[::1/share"}, "error parsing mount device url"),
    ],
)
def test_wrong_options_are_refused_in_docker_s_words(
    driver: LocalDriver, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match="^" + sentence.replace("[", r"\[")):
        driver.check("data", options)


def test_a_volume_without_options_is_a_bind_of_its_folder(
    driver: LocalDriver, folders: Folders
) -> None:
    driver.create("data", {})
    assert driver.mount("data", {}, "c1").source == "/var/lib/sampan/volumes/data/_data"
    driver.unmount("data", {}, "c1", last=True)
    assert (folders.mounted, folders.unmounted) == ([], [])


def test_a_size_is_passed_on_in_bytes(driver: LocalDriver, folders: Folders) -> None:
    driver.create("data", {"size": "10M"})
    assert folders.made == [("data", 10 << 20)]


def test_what_the_options_say_is_mounted_and_unmounted_after_the_last(
    driver: LocalDriver, folders: Folders
) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,,uid=5"}
    driver.mount("data", options, "c1")
    (mount,) = folders.mounted
    assert (mount.type, mount.source, mount.options) == ("tmpfs", "tmpfs", ["size=1m", "uid=5"])
    driver.unmount("data", options, "c1", last=False)
    assert folders.unmounted == []
    driver.unmount("data", options, "c2", last=True)
    assert folders.unmounted == ["data"]


@pytest.mark.parametrize(
    ("kind", "device", "words", "expected"),
    [
        ("nfs", ":/srv", "addr=files.example,rw", (":/srv", ["addr=192.0.2.7", "rw"])),
        ("nfs", ":/srv", "addr=10.0.0.1,rw", (":/srv", ["addr=10.0.0.1", "rw"])),
        ("nfs4", ":/srv", "rw,addr=fe80::1", (":/srv", ["rw", "addr=fe80::1"])),
        ("nfs", ":/srv", "mountaddr=x.example", (":/srv", ["mountaddr=x.example"])),
        ("cifs", "//files.example/s", "user=a", ("//192.0.2.7/s", ["user=a"])),
        ("ext4", "/dev/x", "addr=files.example", ("/dev/x", ["addr=files.example"])),
    ],
)
def test_names_of_hosts_become_addresses_for_network_file_systems(
    driver: LocalDriver,
    folders: Folders,
    kind: str,
    device: str,
    words: str,
    expected: tuple[str, list[str]],
) -> None:
    driver.mount("data", {"type": kind, "device": device, "o": words}, "c1")
    assert (folders.mounted[0].source, folders.mounted[0].options) == expected


def test_a_host_that_nobody_knows_is_named(driver: LocalDriver) -> None:
    options = {"type": "nfs", "device": ":/srv", "o": "addr=nowhere"}
    with pytest.raises(InvalidArgument, match="error resolving passed in network volume address"):
        driver.mount("data", options, "c1")


def test_no_password_is_in_an_error(driver: LocalDriver, folders: Folders) -> None:
    folders.failure = "failed to mount local volume: x, data: user=a,password=secret: refused"
    options = {"type": "cifs", "device": "//10.0.0.1/s", "o": "user=a,password=secret"}
    with pytest.raises(InvalidArgument) as refused:
        driver.mount("data", options, "c1")
    assert "secret" not in str(refused.value)
    assert str(refused.value).startswith(
        "error while mounting volume '/var/lib/sampan/volumes/data/_data': failed to mount"
    )
