"""What a server is told of a user, and what all others can see of it while git runs."""

from __future__ import annotations

import asyncio
import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sampan.engine.git import Remote
from sampan.engine.repositories import archive_of
from sampan.errors import InvalidArgument, Upstream
from sampan.spec.build import Repository


@dataclass
class Guarded:
    """A server of repositories that wants a name and a password, and what it has seen."""

    url: str = ""
    login: bytes = b""
    commands: list[bytes] = field(default_factory=list)  # that ran while it was being asked
    environments: list[bytes] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)  # by which authorization
    leads_to: str = ""

    def at(self, user: str, name: str = "one") -> str:
        return f"{self.url}/{name}.git".replace("://", f"://{user}@")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    yield from serve(tmp_path)


def serve(folder: Path) -> Iterator[Guarded]:
    seen = Guarded()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            seen.asked.append(given)
            note(seen)  # while git waits for the answer
            if seen.leads_to:
                self.send_response(302)
                self.send_header("Location", seen.leads_to + self.path)
                self.end_headers()
            elif seen.login and given != f"Basic {base64.b64encode(seen.login).decode()}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="ships"')
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


def note(seen: Guarded) -> None:
    """Read the command lines of all processes, and the environments of those of git."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = process.joinpath("cmdline").read_bytes()
            seen.commands.append(command)
            if command.startswith((b"git\0", b"/usr/lib/git-core/")):
                path = process / "environ"
                assert path.stat().st_mode & 0o077 == 0
                seen.environments.append(path.read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def publish(folder: Path, name: str = "one") -> None:
    """Make a repository that a plain server of files can give."""
    work = folder / name
    work.mkdir()
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    (work / "cargo").write_text("tea\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run(["git", *who, "-C", work, *words], check=True)
    bare = folder / f"{name}.git"
    subprocess.run(["git", "clone", "-q", "--bare", work, bare], check=True)
    subprocess.run(["git", "-C", bare, "update-server-info"], check=True)


def fetched(url: str) -> bytes:
    def read(pipe: int) -> bytes:
        return b"".join(iter(lambda: os.read(pipe, 1 << 16), b""))

    return asyncio.run(archive_of(Repository(url=url), read))


@pytest.mark.parametrize(
    ("user", "login"),
    [
        ("captain:hunter2", b"captain:hunter2"),
        ("captain:hun%20%24%60%27ter2%25s", b"captain:hun $`'ter2%s"),
        ("hunter2:", b"hunter2:"),
        ("n%C3%A9%40home:hunter2", "né@home:hunter2".encode()),
    ],
)
def test_a_password_is_told_to_the_server_and_is_in_no_command_line(
    guarded: Guarded, tmp_path: Path, user: str, login: bytes
) -> None:
    publish(tmp_path)
    guarded.login = login
    assert b"tea\n" in fetched(guarded.at(user))
    assert any(b"remote-http" in it and b"127.0.0.1" in it for it in guarded.commands)
    assert not [it for it in guarded.commands if b"hunter2" in it or b"ter2%" in it]
    assert any(b"ter2" in it for it in guarded.environments), "it looked at the right processes"


def test_a_wrong_password_is_refused_without_being_told(guarded: Guarded, tmp_path: Path) -> None:
    publish(tmp_path)
    guarded.login = b"captain:other"
    for user in ("captain:hunter2", "hunter2"):
        with pytest.raises(Upstream, match="git fetch: ") as caught:
            fetched(guarded.at(user))
        assert "hunter2" not in str(caught.value)
    assert not [it for it in guarded.commands if b"hunter2" in it]


def test_nobody_is_told_who_is_not_asked(guarded: Guarded, tmp_path: Path) -> None:
    publish(tmp_path)
    assert b"tea\n" in fetched(guarded.at("captain:hunter2"))
    assert set(guarded.asked) == {None}


def test_a_server_that_is_led_to_is_not_told(
    guarded: Guarded, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    publish(elsewhere)
    for other in serve(elsewhere):
        other.login = b"captain:hunter2"
        guarded.leads_to = other.url
        with pytest.raises(Upstream):
            fetched(guarded.at("captain:hunter2"))
        assert other.asked
        assert set(other.asked) == {None}


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://host/x.git", "https://host/x.git"),
        ("https://user@host/x@y.git", "https://host/x@y.git"),
        ("HTTPS://user:a:b@c@[::1]:80", "HTTPS://[::1]:80"),
        ("ssh://git:secret@host/x", "ssh://git@host/x"),
        ("git@host:x.git", "git@host:x.git"),
    ],
)
def test_the_address_that_git_gets_has_no_password(url: str, plain: str) -> None:
    assert Remote.of(url).url == plain


@pytest.mark.parametrize("user", ["a%0Apassword=x:hunter2", "a:hunter2%00", "a:hunter2%0d"])
def test_what_would_be_more_than_a_name_or_a_password_is_refused(user: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid name or password") as caught:
        Remote.of(f"https://{user}@host/x.git")
    assert "hunter2" not in str(caught.value)
