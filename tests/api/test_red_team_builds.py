"""A hostile Dockerfile or context: its steps are containers, and its copies stay in the image.

Every row of docs/explanation/security.md names its test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tarballs
from tests.daemon import Daemon
from tests.inside import run

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TAR = {"Content-Type": "application/x-tar"}
LOOK = "grep -E '^(CapBnd|CapInh|Seccomp):' /proc/self/status"


@pytest.fixture
def builder(daemon: Daemon) -> Iterator[Daemon]:
    yield daemon
    daemon.remove_containers()
    daemon.request("DELETE", "/images/hostile?force=1")
    daemon.request("POST", "/build/prune?all=1")


def build(daemon: Daemon, dockerfile: str, *members: bytes) -> tuple[str, str]:
    """Return what was said, and the error."""
    context = tarballs.archive(tarballs.file("Dockerfile", dockerfile.encode()), *members)
    answer = daemon.request("POST", "/build?t=hostile&nocache=1", context, TAR)
    messages = [json.loads(line) for line in answer.body.splitlines()]
    said = "".join(message.get("stream", "") for message in messages)
    errors = [message.get("error") or message.get("message") for message in messages]
    return said, next(filter(None, errors), "")


def test_cve_2024_23653_a_step_of_a_build_is_confined_like_a_container(builder: Daemon) -> None:
    said, error = build(builder, f"FROM busybox\nRUN {LOOK}\n")
    assert not error
    for line in run(builder, LOOK).lines:
        assert line in said
    _, error = build(builder, "FROM busybox\nRUN --security=insecure mount -t tmpfs x /home\n")
    assert "security.insecure is not allowed" in error


@pytest.mark.parametrize("number", [3, 7])
def test_cve_2024_21626_no_descriptor_is_the_working_directory_of_a_step(
    builder: Daemon, number: int
) -> None:
    said, error = build(builder, f"FROM busybox\nWORKDIR /proc/self/fd/{number}\nRUN ls ../../..\n")
    assert error, said


@pytest.mark.parametrize(
    "instruction",
    [
        "COPY evil /out/copied",
        "COPY evil /up/copied",
        "ADD evil.tar /out/",
        "WORKDIR /out/made",
        "COPY evil ../../../../../../../..{outside}/copied",
    ],
)
def test_cve_2018_15664_no_instruction_writes_through_a_link(
    builder: Daemon, instruction: str, tmp_path: Path
) -> None:
    evil = tarballs.file("evil", b"evil", 0o777)
    links = f"ln -s /../../..{tmp_path} /out && ln -s ../../../../../../../..{tmp_path} /up"
    dockerfile = f"FROM busybox\nRUN {links}\n{instruction.replace('{outside}', str(tmp_path))}\n"
    build(builder, dockerfile, evil, tarballs.file("evil.tar", tarballs.archive(evil)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd", "/proc/1"])
def test_cve_2024_1753_a_link_of_the_context_shows_no_file_of_the_host(
    builder: Daemon, target: str
) -> None:
    dockerfile = "FROM busybox\nCOPY link/ /got/\nRUN cat /got/* /got /got/environ\n"
    said, error = build(builder, dockerfile, tarballs.symlink("link", target))
    assert "sampan:" not in said + error  # a user of the host
    assert "root:x:0:0:root:/root:/bin/bash" not in said
