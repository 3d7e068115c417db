"""Builds by both command lines, the docker CLI's classic builder and ours, and by compose."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

from tests.daemon import REPOSITORY, Daemon
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]
DEPRECATED = re.compile(r"DEPRECATED: The legacy builder.*\n( {12}.*\n)*\n*")


@pytest.fixture(autouse=True)
def _tidy(daemon: Daemon) -> Iterator[None]:
    yield
    daemon.request("DELETE", "/images/made:1?force=1")
    daemon.request("POST", "/build/prune?all=1")


@pytest.fixture(params=["sampan", "docker"])
def program(request: pytest.FixtureRequest, daemon: Daemon) -> str:
    return daemon.programs[request.param]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE=busybox\nFROM $BASE\nARG WHO=nobody\nRUN echo $WHO > /who\nCOPY . /files/\n"
        'CMD ["sh", "-c", "cat /who; ls -A /files"]\n'
    )
    (tmp_path / "kept").write_text("1")
    (tmp_path / "left.log").write_text("2")
    (tmp_path / ".dockerignore").write_text("*.log\nDockerfile\n.dockerignore\n")
    return tmp_path


def run(daemon: Daemon, *command: str, given: str = "", code: int = 0) -> str:
    """Return what a command prints, both streams together."""
    result = subprocess.run(
        [*daemon.enter, *command],
        env={**daemon.environment, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        input=given,
        check=False,
    )
    assert result.returncode == code, result.stdout
    return DEPRECATED.sub("", result.stdout)


def test_a_folder_is_built(daemon: Daemon, program: str, context: Path, tmp_path: Path) -> None:
    command = program, "build", "-t", "made:1", "--build-arg", "WHO=me", "--label", "a=b c"
    said = run(daemon, *command, str(context))
    assert "Step 7/7 : LABEL" in said
    assert "Successfully tagged made:1\n" in said
    assert run(daemon, program, "run", "--rm", "made:1") == "me\nkept\n"
    id_file = tmp_path / "id"
    said = run(daemon, *command, "--iidfile", str(id_file), str(context))
    assert said.count("Using cache") == 5
    assert run(daemon, program, "build", "-q", str(context)).startswith("sha256:")
    inspected = run(daemon, program, "inspect", "-f", "{{.Id}} {{.Config.Labels.a}}", "made:1")
    assert inspected == f"{id_file.read_text()} b c\n"


def test_dockerfiles_come_from_everywhere(daemon: Daemon, program: str, context: Path) -> None:
    other = "FROM busybox\nCOPY kept /\nCOPY . /all/\nRUN ls -A /all\n"
    said = run(daemon, program, "build", "-f", "-", str(context), given=other)
    assert "\nkept\n" in said
    (context.parent / "other").write_text(other)
    said = run(daemon, program, "build", "-f", str(context.parent / "other"), str(context))
    assert "Successfully built" in said
    said = run(daemon, program, "build", "-", given="FROM busybox\nRUN echo from stdin\n")
    assert "from stdin\n" in said


def test_a_failure_is_the_status(daemon: Daemon, program: str, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
    said = run(daemon, program, "build", str(context), code=3)
    assert "The command '/bin/sh -c exit 3' returned a non-zero code: 3\n" in said


def test_the_cache_is_pruned(daemon: Daemon, program: str, context: Path) -> None:
    run(daemon, program, "build", "-t", "made:1", str(context))
    said = run(daemon, program, "builder", "prune", "-af")
    assert "Total reclaimed space: 0B" in said  # the image still has the layers
    assert "Using cache" not in run(daemon, program, "build", str(context))


def test_compose_builds_what_it_starts(daemon: Daemon, context: Path) -> None:
    (context / "compose.yml").write_text(
        "version: '3'\nservices:\n  web:\n    image: made:1\n    build:\n      context: .\n"
        "      args:\n        WHO: compose\n"
    )
    compose = "docker-compose", "-f", str(context / "compose.yml")
    try:
        said = run(daemon, *compose, "up", "--no-color")
        assert "| compose\n" in said
        assert "Successfully tagged made:1" in said
    finally:
        run(daemon, *compose, "down", "--rmi", "all")
        daemon.request("POST", "/build/prune?all=1")


def test_the_example_of_two_stages_is_built_and_answers(daemon: Daemon, program: str) -> None:
    folder = str(REPOSITORY / "examples/multi-stage")
    run(daemon, program, "build", "-t", "made:1", "--build-arg", "TITLE=Boats", folder)
    run(daemon, program, "run", "-d", "--name", "pages", "made:1")
    page = program, "exec", "pages", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/junk.html"
    answers: list[str] = []

    def answered() -> bool:
        done = subprocess.run(
            [*daemon.enter, *page],
            env=daemon.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        answers.append(done.stdout)
        return done.returncode == 0

    eventually(answered)
    assert answers[-1] == "<h1>Boats</h1><p>junk</p>\n"
    assert run(daemon, program, "exec", "pages", "id", "-u") == "1000\n"
    run(daemon, program, "rm", "-f", "pages")
    for volume in daemon.request("GET", "/volumes").json["Volumes"] or []:
        daemon.request("DELETE", f"/volumes/{volume['Name']}")


def test_the_progress_of_a_build_is_drawn_on_a_terminal(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox\nRUN echo begun; while [ ! -e /tmp/x ]; do read line </dev/null; "
        "n=$((n+1)); [ $n -gt 200000 ] && touch /tmp/x; done; echo ended\nCOPY kept /\n"
    )
    screen = pyte.Screen(100, 30)
    stream = pyte.ByteStream(screen)
    command = [daemon.programs["sampan"], "build", "-t", "made:1", str(context)]
    child = pexpect.spawn(
        command[0], command[1:], env=daemon.environment, dimensions=(30, 100), timeout=PATIENCE
    )
    seen: list[str] = []
    while True:
        try:
            stream.feed(child.read_nonblocking(1 << 16, timeout=PATIENCE))
        except pexpect.EOF:
            break
        seen.append("\n".join(line.rstrip() for line in screen.display))
    child.close()
    assert child.exitstatus == 0
    running = [one for one in seen if re.search(r" => \[2/3\] RUN.* \d+\.\ds\n => => # begun", one)]
    assert running, seen[-3:]
    last = seen[-1]
    assert re.search(r"\[\+\] Building \d+\.\ds \(5/5\) FINISHED", last)
    assert "# begun" not in last
    assert "transferring context:" in last
    assert not screen.cursor.hidden


@pytest.mark.parametrize("kind", ["plain", "rawjson", "quiet"])
def test_the_progress_may_be_of_another_kind(daemon: Daemon, context: Path, kind: str) -> None:
    result = subprocess.run(
        [daemon.programs["sampan"], "build", "--progress", kind, "-t", "made:1", str(context),
         "--metadata-file", str(context.parent / "meta"),
         "--iidfile", str(context.parent / "id")],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    image = daemon.request("GET", "/images/made:1/json").json["Id"]
    assert (context.parent / "id").read_text() == image
    assert json.loads((context.parent / "meta").read_text()) == {
        "containerimage.config.digest": image,
        "containerimage.digest": image,
        "image.name": "made:1",
    }
    assert result.stdout == (f"{image}\n" if kind == "quiet" else "")
    if kind == "plain":
        assert re.search(r"#\d+ \[\d/\d\] COPY \. /files/\n#\d+ (DONE \d|CACHED)", result.stderr)
        assert f"writing image {image}" in result.stderr
    elif kind == "rawjson":
        documents = [json.loads(line) for line in result.stderr.splitlines()]
        names = [one["name"] for it in documents for one in it.get("vertexes", ())]
        assert names[-1] == "exporting to image"
    else:
        assert result.stderr == ""


def test_further_contexts_and_stages_to_run_again(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM none AS base\nFROM busybox AS one\nRUN echo x >/x\nFROM base\nCOPY --from=one /x /x\n"
    )
    command = daemon.programs["sampan"], "build", str(context)
    named = "--build-context", "base=docker-image://busybox"
    run(daemon, *command, *named)
    said = run(daemon, *command, *named, "--no-cache-filter", "one")
    assert "Running in" in said
    said = run(daemon, *command, "--build-context", "base=/nowhere", code=1)
    assert "failed to get build context base: stat /nowhere: no such file or directory" in said
    said = run(daemon, *command, "--build-context", "base", code=1)
    assert "invalid context value: base, expected key=value" in said
