"""Debian's docker-compose (1.29), unmodified: services that find one another by name."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

STACK = """
version: "2.4"
services:
  web:
    image: busybox
    command: sh -c "echo page > /var/www/index.html; exec httpd -f -h /var/www"
    ports: ["8060:80"]
    networks:
      front: {aliases: [www]}
      back: {ipv4_address: 10.61.0.99}
  client:
    image: busybox
    command: sleep 1000
    depends_on: [web]
    networks: [front]
  worker:
    image: busybox
    command: sleep 1000
    networks: [back]
networks:
  front: {}
  back:
    internal: true
    ipam: {config: [{subnet: 10.61.0.0/24}]}
"""
Compose = Callable[..., str]


@pytest.fixture
def compose(daemon: Daemon, tmp_path: Path) -> Iterator[Compose]:
    program = shutil.which("docker-compose")
    assert program, "docker-compose is missing: apt-get install docker-compose"
    (tmp_path / "docker-compose.yml").write_text(STACK)

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [program, "--project-name", "stack", *arguments],
            cwd=tmp_path,
            env={**daemon.environment, "COMPOSE_HTTP_TIMEOUT": "60"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert (done.returncode == 0) == (code == 0), done.stderr
        return done.stdout + done.stderr

    yield run
    run("down", "-t", "0")


def test_a_stack_comes_up_finds_itself_by_name_and_goes(compose: Compose, daemon: Daemon) -> None:
    compose("up", "-d", "--scale", "client=2")
    for name in ("web", "www", "stack_web_1", "stack_web_1.stack_front"):
        eventually(lambda name=name: "page" in _fetch(compose, f"http://{name}/"))  # type: ignore[misc]
    found = compose("exec", "-T", "web", "nslookup", "client")
    assert found.count("Name:\tclient") == 2  # both replicas
    assert "10.61.0.99" in compose("exec", "-T", "worker", "nslookup", "web")
    compose("exec", "-T", "worker", "nslookup", "client", code=1)  # not on its network
    published = subprocess.run(
        [*daemon.enter, "curl", "-s", "--noproxy", "*", "http://127.0.0.1:8060/"],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert published.stdout == b"page\n"
    assert "Up" in compose("ps")
    compose("rm", "--stop", "--force", "web")
    compose("exec", "-T", "client", "nslookup", "web", code=1)
    compose("up", "-d", "web")
    eventually(lambda: "page" in _fetch(compose, "http://web/"))
    compose("down", "-t", "0")
    networks = daemon.request("GET", "/networks").json
    assert {network["Name"] for network in networks} == {"bridge", "host", "none"}


def _fetch(compose: Compose, url: str) -> str:
    try:
        return compose("exec", "-T", "client", "wget", "-qO-", url)
    except AssertionError:
        return ""
