"""A hostile image: what its configuration, its links and its users could make the engine do.

Every row of docs/explanation/security.md names its test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import busybox, tarballs
from tests.daemon import Daemon
from tests.inside import body, create, execute, run, started
from tests.layouts import Layout

pytestmark = pytest.mark.privileged

TAR = {"Content-Type": "application/x-tar"}
OUTSIDE = Path("/var/tmp/red-team-outside")


@pytest.fixture(scope="module")
def rootfs() -> bytes:
    return busybox.archive()


@pytest.fixture
def image(daemon: Daemon, rootfs: bytes) -> Any:
    """Return a function that gives the daemon the image `hostile`, and takes it away afterwards."""

    def load(*members: bytes, **config: Any) -> str:
        layout = Layout()
        layers = [rootfs, *([tarballs.archive(*members)] if members else [])]
        layout.name(
            layout.image(*layers, config=config, compress=None), "docker.io/library/hostile:latest"
        )
        answer = daemon.request("POST", "/images/load?quiet=1", layout.archive(), TAR)
        assert answer.status == 200, answer.body
        assert b"errorDetail" not in answer.body, answer.body
        return "hostile"

    yield load
    daemon.remove_containers()
    daemon.request("DELETE", "/images/hostile?force=1")
    assert not OUTSIDE.exists()


def refused(daemon: Daemon, sentence: str, **fields: Any) -> None:
    """Assert that a container of the image is refused, when it is made or when it starts."""
    answer = daemon.request("POST", "/containers/create", body("true", Image="hostile", **fields))
    if answer.status == 201:
        answer = daemon.request("POST", f"/containers/{answer.json['Id']}/start")
    assert (answer.status, sentence in answer.json["message"]) == (400, True), answer.body


def test_cve_2022_23648_volumes_of_an_image_show_nothing_of_the_host(
    daemon: Daemon, image: Any
) -> None:
    """The path was joined with the root and what lay there on the host was copied into it."""
    inside = "/../../../../../../../etc/ssl"
    assert Path("/etc/passwd").exists()
    image(tarballs.folder("etc/ssl"), tarballs.file("etc/ssl/own"), Volumes={inside: {}})
    seen = run(daemon, "ls /etc/ssl; ls /etc | wc -l", Image="hostile")
    assert seen.lines[0] == "own"
    assert int(seen.lines[-1]) < 12


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        ("/", "destination can't be '/'"),
        ("/proc", "cannot be mounted because it is not of type proc"),
        ("/proc/self/attr", "cannot be mounted because it is inside /proc"),
    ],
)
def test_cve_2023_28642_a_volume_of_an_image_is_never_in_the_place_of_proc(
    daemon: Daemon, image: Any, volume: str, sentence: str
) -> None:
    image(Volumes={volume: {}})
    refused(daemon, sentence)


@pytest.mark.parametrize(
    ("members", "folder"),
    [
        ((tarballs.symlink("work", f"/../../../../..{OUTSIDE}"),), "/work/a/b"),
        ((tarballs.symlink("work", "../../../../../../.." + str(OUTSIDE)),), "/work/a"),
        ((), "/../../../../../../../.." + str(OUTSIDE)),
    ],
)
def test_cve_2024_21626_the_working_directory_of_an_image_is_made_inside(
    daemon: Daemon, image: Any, members: tuple[bytes, ...], folder: str
) -> None:
    image(*members, WorkingDir=folder)
    seen = run(daemon, "pwd; cat /etc/passwd", Image="hostile")
    assert seen.lines[0] in (folder, str(OUTSIDE))
    assert "sampan" not in seen.out  # a user of the host


@pytest.mark.parametrize("number", range(3, 12))
def test_cve_2024_21626_no_descriptor_is_a_working_directory(
    daemon: Daemon, image: Any, number: int
) -> None:
    image(WorkingDir=f"/proc/self/fd/{number}")
    refused(daemon, "chdir to cwd")


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("4294967296", "uids and gids must be in range"),  # CVE-2024-40635: 0 after a wrap
        ("0:4294967296", "uids and gids must be in range"),
        ("-1", "uids and gids must be in range"),
        ("18446744073709551616", "uids and gids must be in range"),
        ("huge", "uids and gids must be in range"),
        ("wrapped", "unable to find user wrapped"),
    ],
)
def test_cve_2024_40635_no_user_of_an_image_becomes_root_by_overflow(
    daemon: Daemon, image: Any, user: str, sentence: str
) -> None:
    passwd = b"huge:x:4294967296:4294967296::/:/bin/sh\nwrapped:x:-4294967296:0::/:/bin/sh\n"
    image(tarballs.file("etc/passwd", passwd), User=user)
    refused(daemon, sentence)


def test_cve_2016_3697_a_name_of_digits_is_a_number(daemon: Daemon, image: Any) -> None:
    passwd = b"1000:x:0:0::/root:/bin/sh\nroot:x:0:0::/root:/bin/sh\n"
    image(tarballs.file("etc/passwd", passwd), User="1000")
    assert run(daemon, "id -u", Image="hostile").out == "1000\n"
    with started(daemon, "sleep 1000", Image="hostile") as container:
        assert execute(daemon, container, "id -u", User="1000").out == "1000\n"


def test_cve_2022_36109_supplementary_groups_are_those_of_the_user(
    daemon: Daemon, image: Any
) -> None:
    group = b"root:x:0:\nuser:x:1000:\nextra:x:77:user\nother:x:78:root\n"
    passwd = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"
    image(tarballs.file("etc/passwd", passwd), tarballs.file("etc/group", group), User="user")
    assert run(daemon, "id -G", Image="hostile").out == "1000 77\n"


@pytest.mark.parametrize(
    "members",
    [
        (tarballs.symlink("etc/passwd", "/proc/self/environ"),),
        (tarballs.symlink("etc/passwd", "/../../../../../../etc/passwd"),),
        (tarballs.symlink("etc/passwd", "/proc/1/root/etc/passwd"),),
        (tarballs.raw(b"etc/passwd", b"6"),),
        (tarballs.raw(b"etc/passwd", b"3", device=(1, 5)),),
        (tarballs.file("etc/passwd", b"\n" * (11 << 20)),),
        (tarballs.folder("etc/passwd"),),
    ],
    ids=["kernel", "host", "magic", "fifo", "zero", "huge", "folder"],
)
def test_cve_2024_9676_a_user_database_is_a_file_of_the_image_with_an_end(
    daemon: Daemon, image: Any, members: tuple[bytes, ...]
) -> None:
    image(*members, User="sampan")  # a user of the host
    container = create(daemon, "id", Image="hostile")
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status == 400, answer.body
    assert "/etc/passwd" in answer.json["message"] or "unable to find user" in answer.body.decode()


def test_cve_2026_53489_labels_of_an_image_give_no_device(daemon: Daemon, image: Any) -> None:
    """Labels and annotations of images were taken for requests of the administrator."""
    names = ("cdi.k8s.io/x", "io.containerd.runc.v2", "com.docker.engine", "devices", "seccomp")
    image(Labels=dict.fromkeys(names, "vendor.com/device=all"))
    plain, labelled = (
        daemon.request("POST", "/containers/create", body("true", Image=name)).json["Id"]
        for name in ("busybox", "hostile")
    )
    inspected = [daemon.request("GET", f"/containers/{it}/json").json for it in (plain, labelled)]
    assert inspected[0]["HostConfig"] == inspected[1]["HostConfig"]
    assert run(daemon, "ls /dev", Image="hostile").out == run(daemon, "ls /dev").out


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"StopSignal": "SIGNOPE"}, "invalid signal: SIGNOPE"),
        ({"ExposedPorts": {"80/tcp; reboot": {}}}, "invalid port specification"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1}}, "cannot be less than 1ms"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Retries": -1}}, "cannot be negative"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    daemon: Daemon, image: Any, config: dict[str, Any], sentence: str
) -> None:
    image(**config)
    refused(daemon, sentence)


@pytest.mark.parametrize(
    "members",
    [
        (tarballs.symlink("dev", str(OUTSIDE)),),  # CVE-2026-41579, CVE-2026-47766
        (tarballs.symlink("etc", str(OUTSIDE)),),
        (tarballs.symlink("proc", str(OUTSIDE)), tarballs.symlink("sys", str(OUTSIDE))),
        (
            tarballs.symlink("etc/hosts", str(OUTSIDE)),
            tarballs.symlink("etc/resolv.conf", "/proc/self/attr/exec"),
            tarballs.symlink("etc/hostname", "/dev/kmsg"),
        ),
        (tarballs.symlink("sbin", str(OUTSIDE)), tarballs.symlink("sbin/docker-init", "/x")),
    ],
    ids=["dev", "etc", "proc", "files", "init"],
)
def test_cve_2026_47766_links_in_the_place_of_mounts_lead_nowhere(
    daemon: Daemon, image: Any, members: tuple[bytes, ...]
) -> None:
    """Started or refused: nothing is made outside (asserted by the fixture), and nothing hangs."""
    image(*members)
    container = create(daemon, "grep -c localhost /etc/hosts", Image="hostile", Init=True)
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status in (204, 400), answer.body
    if answer.status == 204:
        assert daemon.request("POST", f"/containers/{container}/wait").json["StatusCode"] == 0
