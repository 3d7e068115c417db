"""A whole daemon on each storage driver."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_bad_days import lines, run_in, start, wait
from tests.daemon import Daemon, running
from tests.filesystems import Shop, kernel_has
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

DRIVERS = {
    "overlay": "",
    "overlay@xfs": "xfs",
    "btrfs@btrfs": "btrfs",
    "fuse-overlayfs": "",
    "vfs": "",
}
CHANGE = "echo new >/new; mkdir /etc/sub; echo x >/etc/sub/f; rm -r /home; chmod 700 /var"


@contextlib.contextmanager
def using(variant: str, filesystems: Shop, *options: str) -> Iterator[Daemon]:
    """Run a daemon with a driver, on a file system of its own if that is wanted."""
    driver, _, kind = variant.partition("@")
    with contextlib.ExitStack() as stack:
        if kind and not kernel_has(kind):
            pytest.skip(f"this kernel has no {kind}")
        folder = stack.enter_context(filesystems.folder(kind)) if kind else None
        if folder:
            folder.chmod(0o711)
        daemon = stack.enter_context(running("-s", driver, *options, data_in=folder))
        daemon.import_image()
        yield daemon


def inspect(daemon: Daemon, container: str) -> Any:
    return daemon.request("GET", f"/containers/{container}/json").json


def snapshots(daemon: Daemon, driver: str) -> list[str]:
    names = os.listdir(daemon.data_root / "snapshots" / driver)
    return [name for name in names if not name.startswith(".")]


@pytest.mark.parametrize("variant", DRIVERS)
def test_a_container_lives_and_leaves_nothing(variant: str, filesystems: Shop) -> None:
    driver = variant.partition("@")[0]
    with using(variant, filesystems) as daemon:
        info = daemon.request("GET", "/info").json
        assert info["Driver"] == driver
        assert dict(info["DriverStatus"])["Mounts"] == "detached"
        container = start(daemon, "sh", "-c", CHANGE)
        assert wait(daemon, container) == 0, lines(daemon, container)
        assert inspect(daemon, container)["GraphDriver"]["Name"] == driver
        changes = {
            (each["Kind"], each["Path"])
            for each in daemon.request("GET", f"/containers/{container}/changes").json
        }
        assert changes == {
            *((1, "/new"), (0, "/etc"), (1, "/etc/sub"), (1, "/etc/sub/f")),
            *((2, "/home"), (0, "/var")),
        }
        exported = daemon.request("GET", f"/containers/{container}/export").body
        with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
            names = set(tar.getnames())
        assert {"new", "etc/sub/f", "bin/sh"} <= names
        assert "home" not in names
        made = daemon.request("POST", f"/commit?container={container}&repo=changed", {})
        assert made.status == 201, made.body
        daemon.stop()
        daemon.start()
        again = start(daemon, "sh", "-c", "cat /new /etc/sub/f; ls -d /home", Image="changed")
        assert wait(daemon, again) == 1
        assert lines(daemon, again)[:2] == ["new", "x"]
        daemon.remove_containers()
        assert daemon.request("DELETE", "/images/changed?force=1").status == 200
        assert daemon.request("DELETE", "/images/busybox?force=1").status == 200
        eventually(lambda: not snapshots(daemon, driver))


@pytest.fixture(scope="module")
def fuse(filesystems: Shop) -> Iterator[Daemon]:
    with using("fuse-overlayfs", filesystems) as daemon:
        yield daemon


def server_of(daemon: Daemon) -> int:
    """Return the process that serves the only mount of fuse-overlayfs there is."""
    eventually(lambda: len(daemon.mount_servers()) == 1)
    (pid,) = daemon.mount_servers()
    return pid


def test_a_mount_of_fuse_outlives_all_our_processes_and_ends_with_its_container(
    fuse: Daemon,
) -> None:
    container = start(fuse, "sh", "-c", "echo 1 >/kept; exec sleep 1000")
    server = server_of(fuse)
    for pid in fuse.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: fuse.process and fuse.process.poll() is not None)
    assert server_of(fuse) == server
    fuse.start()
    assert run_in(fuse, container, "sh", "-c", "echo 2 >>/kept; cat /kept").stdout == "1\n2\n"
    fuse.request("POST", f"/containers/{container}/kill")
    wait(fuse, container)
    eventually(lambda: not Path(f"/proc/{server}/cmdline").exists() or is_zombie(server))
    fuse.remove_containers()


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_container_whose_fuse_process_was_killed_works_again_after_a_restart(
    fuse: Daemon,
) -> None:
    container = start(fuse, "sh", "-c", "echo 1 >>/kept; exec sleep 1000")
    eventually(lambda: run_in(fuse, container, "cat", "/kept").stdout == "1\n")
    os.kill(server_of(fuse), signal.SIGKILL)
    assert run_in(fuse, container, "cat", "/kept").returncode != 0
    # It may be running: what is in memory already can be used, the rest cannot (SIGBUS, ENOTCONN).
    assert fuse.request("POST", f"/containers/{container}/restart?t=0").status == 204
    eventually(lambda: run_in(fuse, container, "cat", "/kept").stdout == "1\n1\n")
    fuse.remove_containers()


def test_what_is_written_is_committed_while_the_container_runs(fuse: Daemon) -> None:
    container = start(fuse, "sh", "-c", "echo whole >/file; echo ready; exec sleep 1000")
    eventually(lambda: lines(fuse, container) == ["ready"])
    made = fuse.request("POST", f"/commit?container={container}&repo=alive", {})
    assert made.status == 201, made.body
    reader = start(fuse, "cat", "/file", Image="alive")
    wait(fuse, reader)
    assert lines(fuse, reader) == ["whole"]
    fuse.remove_containers()


def test_images_and_containers_of_another_driver_are_kept_for_it() -> None:
    with running("-s", "vfs") as daemon:
        daemon.import_image("busybox:latest")
        container = start(daemon, "sh", "-c", "echo mine >/file")
        wait(daemon, container)
        daemon.stop()
        daemon.options = ["-s", "overlay"]
        daemon.start()
        assert daemon.request("GET", "/images/json").json == []
        assert daemon.request("GET", "/containers/json?all=1").json == []
        told = "kept in this data root, but not used by overlay; --storage-driver=vfs shows them"
        assert told in daemon.log
        assert f"container {container[:12]} " in daemon.log
        daemon.images.clear()
        daemon.import_image("busybox:latest")
        other = start(daemon, "sh", "-c", "echo other >/file")
        assert wait(daemon, other) == 0
        problems = daemon.request("GET", "/system/check").json["Problems"]
        assert problems == []
        daemon.stop()
        daemon.options = []
        daemon.start()
        assert daemon.request("GET", "/info").json["Driver"] == "overlay", "it was used last"
        daemon.stop()
        daemon.options = ["-s", "vfs"]
        daemon.start()
        (shown,) = daemon.request("GET", "/containers/json?all=1").json
        assert shown["Id"] == container
        assert len(daemon.request("GET", "/images/json").json) == 1
        again = start(daemon, "true")
        assert wait(daemon, again) == 0
        exported = daemon.request("GET", f"/containers/{container}/export").body
        with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
            assert "file" in tar.getnames()
        assert daemon.request("GET", "/system/check").json["Problems"] == []
        daemon.remove_containers()
        daemon.stop()
        daemon.options = ["-s", "overlay"]
        daemon.start()
