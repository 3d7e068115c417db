"""The examples: built through Debian's package manager by both faces of the builder, and asked.

Classic builds are those of the docker CLI and of docker-compose, the others are made by the calls
of buildx. Containers reach the packages by address translation, at an address that is not theirs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import buildkit, debian, lan
from tests.daemon import REPOSITORY, Daemon, running
from tests.session import eventually

pytestmark = [
    *(pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow),
    pytest.mark.timeout(600),  # a compiler, a Java and all else are installed
]
EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[Daemon, str]]:
    """A daemon that has Debian's image, and where its packages are to be had."""
    with running() as daemon, lan.switch("192.0.2.1/24", daemon.namespace) as outside:
        lan.ip(daemon.namespace, "addr add 192.0.2.2/24 dev em1")
        with debian.mirror(outside) as port:
            debian.import_base(daemon)
            yield daemon, f"http://192.0.2.1:{port}"


@pytest.fixture
def host(shop: tuple[Daemon, str]) -> Iterator[Host]:
    yield Host(*shop)
    shop[0].remove_containers()


class Host:
    """The machine on which the commands of the examples' pages are given."""

    def __init__(self, daemon: Daemon, proxy: str) -> None:
        self._daemon, self._proxy = daemon, proxy

    def run(self, *command: str, folder: Path | None = None) -> str:
        """Return what a command prints."""
        done = subprocess.run(
            [*self._daemon.enter, *command],
            env={**self._daemon.environment, "DOCKER_BUILDKIT": "0"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr
        return done.stdout

    def build(self, example: str, tag: str) -> None:
        """Build by the classic API."""
        proxy = f"http_proxy={self._proxy}"  # an argument that no Dockerfile declares
        folder = str(EXAMPLES / example)
        self.run("docker", "build", "-t", tag, "--build-arg", proxy, folder)

    def buildx(self, example: str, tag: str) -> None:
        """Build by BuildKit's API."""
        folder = EXAMPLES / example
        served = buildkit.Folders({"context": folder, "dockerfile": folder})
        attributes = {"build-arg:http_proxy": self._proxy}
        name = f"docker.io/library/{tag}:latest"
        asyncio.run(buildkit.build(self._daemon.socket, served, name, **attributes))

    def page(self, address: str) -> str:
        """Return a page, as soon as somebody serves it."""
        command = [*self._daemon.enter, "curl", "-sf", "--max-time", "10", f"http://{address}/"]
        answers: list[str] = []

        def answered() -> bool:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            answers.append(done.stdout)
            return done.returncode == 0

        try:
            eventually(answered)
        except AssertionError as error:
            raise AssertionError(self._logs()) from error
        return answers[-1]

    def _logs(self) -> str:
        names = self.run("docker", "ps", "-a", "--format", "{{.Names}}").split()
        lines = "; ".join(f"docker logs {name} 2>&1 | tail -50" for name in names)
        return self.run("sh", "-c", lines)


def test_the_two_programs_that_supervisord_keeps_answer(host: Host, tmp_path: Path) -> None:
    host.build("supervisor", "test/supervisord")
    key = tmp_path / "key"
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    mount = f"{key}.pub:/keys/root:ro"
    ports = "-p", "2222:22", "-p", "8080:80"
    host.run("docker", "run", "-d", "--name", "supervised", *ports, "-v", mount, "test/supervisord")
    assert host.page("127.0.0.1:8080") == "<p>Served by apache, under supervisord.</p>\n"
    options = ("StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path}/known", "BatchMode=yes",
               "ConnectionAttempts=60")  # its host keys are being made  # fmt: skip
    ssh = "ssh", "-i", str(key), "-p", "2222", *(f"-o{option}" for option in options)
    lines: list[list[str]] = []

    def both_run() -> bool:  # for supervisord a program runs when it has not ended for a second
        said = host.run(*ssh, "root@127.0.0.1", "supervisorctl status; id -un")
        lines[:] = [line.split() for line in said.splitlines()]
        return [line[:2] for line in lines[:2]] == [["apache2", "RUNNING"], ["sshd", "RUNNING"]]

    eventually(both_run)
    assert lines[2] == ["root"]


def test_nginx_serves_its_pages(host: Host) -> None:
    host.buildx("nginx", "nginx")
    host.build("nginx", "again")
    host.run("docker", "run", "-d", "--name", "web", "-p", "8080:80", "nginx")
    assert host.page("127.0.0.1:8080") == "<p>Served by nginx.</p>\n"
    eventually(lambda: '"GET / HTTP/1.1" 200' in host.run("docker", "logs", "web"))


def test_requests_are_balanced_over_the_tomcats(host: Host) -> None:
    host.build("tomcat-cluster", "tomcat")
    host.buildx("tomcat-cluster", "again")
    host.build("nginx", "nginx")
    folder = EXAMPLES / "tomcat-cluster"
    compose = "docker-compose", "-p", "cluster"
    host.run(*compose, "up", "-d", "--no-build", folder=folder)
    try:
        served = {f"<p>Served by tm{number}.</p>" for number in (1, 2)}
        seen: set[str] = set()

        def all_seen() -> bool:
            seen.add(host.page("127.0.0.1:8080").strip())
            return seen == served

        eventually(all_seen)
        host.run(*compose, "stop", "-t", "1", "tm1", folder=folder)
        eventually(lambda: {host.page("127.0.0.1:8080").strip() for _ in range(3)}
                   == {"<p>Served by tm2.</p>"})  # fmt: skip
    finally:
        host.run(*compose, "down", "-t", "1", folder=folder)


def test_a_python_application_is_shipped_without_what_built_it(host: Host) -> None:
    host.buildx("python-stages", "harbour")
    host.build("python-stages", "again")
    host.run("docker", "run", "-d", "--name", "harbour", "-p", "8000:8000", "harbour")
    assert host.page("127.0.0.1:8000") == "harbour 1.0\n"
    asked = "sh", "-c", "id -un; command -v pip || echo no pip"
    assert host.run("docker", "exec", "harbour", *asked) == "nobody\nno pip\n"
    state = "docker", "inspect", "--format", "{{.State.Health.Status}}", "harbour"
    eventually(lambda: host.run(*state) == "healthy\n")


def test_a_c_program_is_all_that_its_image_has(host: Host) -> None:
    host.build("c-stages", "greet")
    host.buildx("c-stages", "again")
    host.run("docker", "run", "-d", "--name", "greet", "-p", "7000:7000", "greet")
    assert host.page("127.0.0.1:7000") == "hello!\n"
    size = int(host.run("docker", "image", "inspect", "--format", "{{.Size}}", "greet"))
    assert size < 2_000_000


def test_every_example_is_explained_and_built() -> None:
    tested = Path(__file__).read_text() + (Path(__file__).parent / "test_cli_builds.py").read_text()
    for name in os.listdir(EXAMPLES):
        folder = EXAMPLES / name
        if folder.is_dir():
            assert f"examples/{name}" in (folder / "README.md").read_text()
            assert f'"{name}"' in tested or f"examples/{name}" in tested, name
