"""A hostile container reaches for the host: what its inodes, devices and kernel files are.

Every row of docs/explanation/security.md names its test. Scripts run as root in a container.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.inside import execute, run, started

pytestmark = pytest.mark.privileged


@pytest.fixture
def null_mode() -> Iterator[int]:
    """The mode and owner of /dev/null, which are put back if a container could change them."""
    before = os.stat("/dev/null")
    yield before.st_mode
    os.chmod("/dev/null", before.st_mode & 0o7777)
    os.chown("/dev/null", before.st_uid, before.st_gid)


@pytest.mark.parametrize("path", ["/proc/keys", "/proc/self/fd/0", "/dev/null"])
def test_the_null_device_of_the_host_keeps_its_mode(
    daemon: Daemon, null_mode: int, path: str
) -> None:
    """Masks and streams are that device: with its node, root here would break it for the host."""
    script = f"chmod 0667 {path}; chown 1:1 {path}; touch -t 197001010000 {path}; echo tried"
    before = os.stat("/dev/null").st_mtime_ns
    assert run(daemon, script).out == "tried\n"
    with started(daemon, "sleep 1000") as container:
        assert execute(daemon, container, script).out == "tried\n"
    now = os.stat("/dev/null")
    assert (now.st_mode, now.st_uid, now.st_gid) == (null_mode, 0, 0)
    assert now.st_mtime_ns == before


def test_masks_and_streams_of_null_can_be_written_and_read(daemon: Daemon) -> None:
    script = (
        "echo x >/proc/keys && cat /proc/keys /proc/self/fd/0 && echo y >/proc/self/fd/0 && echo ok"
    )
    assert run(daemon, script).out == "ok\n"
