"""Our command line and docker's on one daemon and real registries: the same words and results."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from tests.daemon import Daemon, running
from tests.registries import Registry, registry
from tests.remote_images import busybox, index, push, small_layer
from tests.session import PATIENCE
from tests.side_by_side import is_docker_28
from tests.tokens import token_server

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.compat,
    pytest.mark.slow,
    pytest.mark.skipif(not is_docker_28(), reason="the docker CLI is not version 28"),
]

USERS = {"captain": "secret"}


@dataclass
class Port:
    """A daemon, and registries that it reaches: for all, for users, and with a token server."""

    daemon: Daemon
    hub: Registry
    private: Registry
    tokens: Registry

    def words(self, line: str) -> list[str]:
        for name, hub in self.registries.items():
            line = line.replace(name, hub.address)
        return shlex.split(line)

    @property
    def registries(self) -> dict[str, Registry]:
        return {"HUB": self.hub, "PRIVATE": self.private, "TOKENS": self.tokens}

    def command(self, program: str, line: str) -> list[str]:
        return [*self.daemon.enter, self.daemon.programs[program], *self.words(line)]

    def environment(self, folder: Path) -> dict[str, str]:
        return {**self.daemon.environment, "DOCKER_CONFIG": str(folder)}

    def run(
        self, program: str, line: str, folder: Path, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(program, line),
            env=self.environment(folder),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def remove_images(self) -> None:
        self.daemon.remove_containers()
        for image in self.daemon.request("GET", "/images/json?all=1").json:
            self.daemon.request("DELETE", f"/images/{image['Id']}?force=1")


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    with (
        running() as daemon,
        registry(daemon.namespace) as hub,
        registry(daemon.namespace, users=USERS) as private,
        token_server(daemon.namespace, USERS) as server,
        registry(daemon.namespace, tokens=server) as tokens,
    ):
        for tag in ("1", "2", "latest"):
            push(hub, "team/app", tag, busybox(small_layer("note", tag.encode()), Cmd=["true"]))
        platforms = [
            busybox(small_layer("arch", name.encode()), architecture=name)
            for name in ("amd64", "arm64")
        ]
        push(hub, "team/multi", "latest", index(*platforms, attestations=True))
        for name, one in zip(("amd64", "arm64"), platforms, strict=True):
            push(hub, "team/multi", name, one)
        push(private, "secret/app", "latest", busybox(small_layer("hidden")))
        push(tokens, "secret/app", "latest", busybox(small_layer("hidden")))
        yield Port(daemon, hub, private, tokens)
        daemon.remove_containers()


@pytest.fixture(autouse=True)
def _no_images(port: Port) -> Iterator[None]:
    port.remove_images()
    yield
    port.remove_images()


SCRIPTS = {
    "pull": """
        pull HUB/team/app
        pull HUB/team/app
        pull HUB/team/app:1
        pull -q HUB/team/app:2
        pull HUB/team/app:nosuch
        pull HUB/nosuch/app
        pull 127.0.0.1:1/team/app
        images --digests --format '{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}'
        pull -a HUB/team/app
        rmi HUB/team/app:1
        rmi HUB/team/app:2 HUB/team/app
        pull --platform linux/arm64 HUB/team/multi
        image inspect -f '{{.Os}}/{{.Architecture}}' HUB/team/multi
        pull --platform linux/riscv64 HUB/team/multi
        history --format '{{.CreatedBy}} {{.Size}}' HUB/team/multi
        rmi HUB/team/multi
    """,
    "run": """
        run --rm HUB/team/app cat /note
        run --rm HUB/team/app cat /note
        run --rm --pull=never HUB/team/app:1 cat /note
        run --rm -q HUB/team/app:1 cat /note
        run --rm --pull=always HUB/team/app:1 cat /note
        run --rm HUB/nosuch/app true
        create --name made --pull=always HUB/team/app:2
        rm made
    """,
    "push": """
        pull -q HUB/team/app
        tag HUB/team/app HUB/to/PROGRAM:1
        tag HUB/team/app HUB/to/PROGRAM:2
        push HUB/to/PROGRAM:1
        push HUB/to/PROGRAM:1
        push -q HUB/to/PROGRAM:1
        push -a HUB/to/PROGRAM
        push HUB/to/PROGRAM
        push HUB/nosuch/image
        push 127.0.0.1:1/x
        tag HUB/team/app 127.0.0.1:1/x
        push 127.0.0.1:1/x
    """,
    "logins": """
        pull PRIVATE/secret/app
        login -u captain -p wrong PRIVATE
        login -u captain -p secret PRIVATE
        pull PRIVATE/secret/app
        login PRIVATE
        tag PRIVATE/secret/app PRIVATE/secret/PROGRAM
        push -q PRIVATE/secret/PROGRAM
        run --rm PRIVATE/secret/app cat /hidden
        logout PRIVATE
        push PRIVATE/secret/PROGRAM
        logout PRIVATE
        rmi PRIVATE/secret/app
    """,
    "identity tokens": """
        login -u captain -p wrong TOKENS
        login -u captain -p secret TOKENS
        pull -q TOKENS/secret/app
        tag TOKENS/secret/app TOKENS/secret/PROGRAM
        push -q TOKENS/secret/PROGRAM
        login TOKENS
        manifest inspect --insecure TOKENS/secret/app
        logout TOKENS
        pull -q TOKENS/secret/app
    """,
    "manifests": """
        manifest inspect --insecure HUB/team/multi
        manifest inspect --insecure -v HUB/team/multi:arm64
        manifest inspect --insecure HUB/team/nosuch
        manifest create --insecure HUB/team/PROGRAM:all HUB/team/multi:amd64 HUB/team/multi:arm64
        manifest annotate HUB/team/PROGRAM:all HUB/team/multi:arm64 --variant v9
        manifest push --insecure --purge HUB/team/PROGRAM:all
        manifest inspect --insecure HUB/team/PROGRAM:all
        pull -q --platform linux/arm64/v9 HUB/team/PROGRAM:all
    """,
}


def level(text: str, port: Port, program: str) -> str:
    """Make equal what must differ."""
    text = re.sub(rf"(?<=[/ (]){program}\b(?=[: \])@/\n])", "PROGRAM", text)
    text = re.sub(rf"^{program}\b|(?<='){program}(?= \w+)", "PROGRAM", text, flags=re.MULTILINE)
    text = text.replace("require 'docker login'", "require 'PROGRAM login'")  # the daemon's words
    text = re.sub(r"'[^']*/config\.json'", "<config>", text)
    text = re.sub(r"(?<=/blobs/)sha256:[0-9a-f]+", "<one of them>", text)
    text = re.sub(r"^[0-9a-f]{64}$", "<container>", text, flags=re.MULTILINE)
    for name, hub in port.registries.items():
        text = text.replace(hub.address, name)
    return text


def unordered(text: str) -> list[str]:
    """Return the lines of a transfer: layers go at the same time, in no order."""
    return sorted(text.splitlines())


def transcript(port: Port, program: str, script: str, folder: Path) -> list[tuple[Any, ...]]:
    folder.mkdir()
    found: list[tuple[Any, ...]] = []
    for line in filter(None, map(str.strip, script.splitlines())):
        result = port.run(program, line.replace("PROGRAM", program), folder)
        out, err = (level(text, port, program) for text in (result.stdout, result.stderr))
        found.append((line, result.returncode, unordered(out), unordered(err), logins(folder)))
    return found


def logins(folder: Path) -> dict[str, list[str]]:
    """Return the fields that are kept of each login."""
    file = folder / "config.json"
    kept = json.loads(file.read_bytes())["auths"] if file.exists() else {}
    return {name: sorted(fields) for name, fields in kept.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_do_the_same(name: str, port: Port, tmp_path: Path) -> None:
    ours = transcript(port, "sampan", SCRIPTS[name], tmp_path / "sampan")
    port.remove_images()
    theirs = transcript(port, "docker", SCRIPTS[name], tmp_path / "docker")
    different = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    for pair in different:
        print(*pair, sep="\n")
    assert not different


def shown(port: Port, program: str, line: str, folder: Path, size: tuple[int, int]) -> list[str]:
    """Return what a terminal shows after a command line."""
    name, *words = port.command(program, line)
    child = pexpect.spawn(
        name,
        words,
        env=port.environment(folder),
        dimensions=size,
        timeout=PATIENCE,
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    screen = pyte.Screen(size[1], size[0])
    pyte.Stream(screen).feed(child.before)
    rows = [level(row.rstrip(), port, program) for row in screen.display]
    return [re.sub(r" {2,}", " ", row) for row in rows]


def test_both_show_the_same_in_the_end(port: Port, tmp_path: Path) -> None:
    for line in ("pull HUB/team/app", "push HUB/team/app", "run --rm HUB/team/app:1 true"):
        found = []
        for program in ("sampan", "docker"):
            if "push" not in line:
                port.remove_images()
            found.append(shown(port, program, line, tmp_path, (30, 130)))
        assert found[0] == found[1], line


def test_a_login_that_is_missing_is_said_at_once(port: Port, tmp_path: Path) -> None:
    result = port.run("sampan", "pull PRIVATE/secret/app", tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith(": no basic auth credentials\n")


def test_a_pull_that_is_broken_off_ends_at_once_and_can_be_taken_up(
    port: Port, tmp_path: Path
) -> None:
    name, *words = port.command("sampan", "pull HUB/team/app")
    child = pexpect.spawn(name, words, env=port.environment(tmp_path), timeout=PATIENCE)
    child.expect("Pulling from")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus in (130, 0)  # 0: it was faster than our hand
    assert port.run("sampan", "pull -q HUB/team/app", tmp_path).returncode == 0


def test_a_tree_shows_what_is_here_of_each_platform(port: Port, tmp_path: Path) -> None:
    port.run("sampan", "pull -q HUB/team/multi", tmp_path)
    ours = port.run("sampan", "images --tree", tmp_path).stdout
    theirs = port.run("docker", "images --tree", tmp_path).stdout
    assert ours == re.sub("\x1b\\[[0-9;]*m", "", theirs)
    assert "linux/amd64" in ours


def test_a_check_finds_nothing_after_all_this(port: Port, tmp_path: Path) -> None:
    port.run("sampan", "pull -q HUB/team/multi", tmp_path)
    result = port.run("sampan", "system check --format json", tmp_path)
    assert json.loads(result.stdout)["Problems"] == []
    assert result.returncode == 0
