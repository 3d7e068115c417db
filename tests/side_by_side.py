"""Our command line and docker's on a daemon of canned answers: the same is said and asked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pexpect
import pyte

from tests.fake_daemon import Asked, FakeDaemon, Replies
from tests.session import PATIENCE


@dataclass
class Told:
    """What one program said and did for one command line."""

    line: str
    status: int
    out: str
    err: str
    asked: list[Any]
    settings: Any = None


@dataclass
class Case:
    """Command lines for a daemon with these answers and a config.json with these settings."""

    script: str
    replies: Replies = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def is_docker_28() -> bool:
    """Whether the docker CLI is one whose words and columns ours has; older ones have others."""
    docker = shutil.which("docker")
    if not docker:
        return False
    version = subprocess.run([docker, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.", version.stdout)
    return bool(found and int(found[1]) == 28)


def programs() -> dict[str, str]:
    docker = shutil.which("docker")
    assert docker, "the docker CLI is missing"
    return {"sampan": f"{sys.prefix}/bin/sampan", "docker": docker}


def environment(folder: Path, daemon: FakeDaemon, case: Case) -> dict[str, str]:
    """Return the environment of a program whose settings lie in `folder`."""
    config = folder / "config"
    config.mkdir(parents=True)
    if case.settings is not None:
        (config / "config.json").write_text(json.dumps(case.settings))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return {
        **kept,
        "DOCKER_HOST": daemon.host,
        "DOCKER_CONFIG": str(config),
        "DOCKER_CLI_HINTS": "1",
        "TZ": "UTC",
        **case.environment,
    }


def told(program: str, case: Case, folder: Path) -> list[Told]:
    """Run a case's lines with one program."""
    found = []
    daemon_folder = folder / "daemon"
    daemon_folder.mkdir(parents=True)
    with FakeDaemon(daemon_folder, case.replies).serving() as daemon:
        env = environment(folder, daemon, case)
        for line in filter(None, map(str.strip, case.script.splitlines())):
            before = len(daemon.asked)
            result = subprocess.run(
                [programs()[program], *shlex.split(line)],
                env=env,
                input=case.stdin.encode(),
                cwd=folder,
                capture_output=True,
                timeout=60,
                check=False,
            )
            file = Path(env["DOCKER_CONFIG"], "config.json")
            found.append(
                Told(
                    line,
                    result.returncode,
                    level(result.stdout.decode(errors="replace"), folder),
                    level(result.stderr.decode(errors="replace"), folder),
                    [asked(request) for request in daemon.asked[before:]],
                    json.loads(file.read_bytes()) if file.exists() else None,
                )
            )
    return found


def asked(request: Asked) -> Asked:
    """Make equal how a container is described, and what only newer daemons know."""
    if request.path == "/containers/create":
        return replace(request, body=request.body["Image"])
    if request.path == "/system/df":
        return replace(request, query={})
    return request


def level(text: str, folder: Path) -> str:
    """Make equal what must differ: the name of the program and its folder."""
    text = text.replace(str(folder), "<folder>")
    text = re.sub(r"\b(docker|sampan)(?=:| |')", "program", text)
    text = re.sub(r"^Usage:  .*$", "Usage", text, flags=re.MULTILINE)
    text = re.sub(r"\bS(ee|Run) 'program", "Run 'program", text)  # docker's slips
    return re.sub("\x1b\\[[0-9;]*m", "", text)  # its tree has colours in files too


def differences(case: Case, folder: Path) -> list[str]:
    """Run a case with both programs and say what differs."""
    ours = told("sampan", case, folder / "sampan")
    theirs = told("docker", case, folder / "docker")
    found = []
    for our, their in zip(ours, theirs, strict=True):
        for name in ("status", "out", "err", "asked", "settings"):
            if getattr(our, name) != getattr(their, name):
                found.append(
                    f"{our.line}: {name}\n  ours:   {getattr(our, name)!r}\n"
                    f"  theirs: {getattr(their, name)!r}"
                )
    return found


@dataclass
class Scene:
    """What a terminal shows after a program ended on it."""

    history: list[str]
    screen: list[str]
    status: int
    sent: str


def scene(
    program: str,
    line: str,
    case: Case,
    folder: Path,
    size: tuple[int, int] = (24, 80),
    answers: Mapping[str, str] | None = None,
) -> Scene:
    """Run a line on a terminal of this size; `answers` are typed when their prompts come."""
    daemon_folder = folder / "daemon"
    daemon_folder.mkdir(parents=True)
    with FakeDaemon(daemon_folder, case.replies).serving() as daemon:
        child = pexpect.spawn(
            programs()[program],
            shlex.split(line),
            env=environment(folder, daemon, case),
            timeout=PATIENCE,
            dimensions=size,
            encoding="utf-8",
            codec_errors="replace",
            cwd=str(folder),
        )
        sent = ""
        for prompt, answer in (answers or {}).items():
            child.expect_exact(prompt)
            sent += child.before + child.after
            child.sendline(answer)
        child.expect(pexpect.EOF)
        sent += child.before
        child.close()
    terminal = pyte.HistoryScreen(size[1], size[0], history=1000, ratio=0.5)
    pyte.Stream(terminal).feed(sent)
    history = [
        "".join(row[column].data for column in range(size[1])).rstrip()
        for row in terminal.history.top
    ]
    rows = [level(row.rstrip(), folder) for row in terminal.display]
    return Scene(history, rows, child.exitstatus, sent)
