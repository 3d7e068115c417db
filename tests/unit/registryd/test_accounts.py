from __future__ import annotations

import io
from pathlib import Path

import pytest

from sampan.registry.tokens import accounts
from sampan.registryd.main import main

FILE = """
version: 0.1
http: {{addr: "127.0.0.1:0"}}
tokens: {{directory: {}, issuer: desk, services: [hub]}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(FILE.format(tmp_path / "tokens"))
    monkeypatch.setenv("REGISTRY_CONFIGURATION_PATH", str(path))
    monkeypatch.setattr(accounts, "ROUNDS", 4)
    return path


Output = pytest.CaptureFixture[str]


def run(output: Output, *words: str, status: int = 0) -> list[list[str]]:
    """Run a command; return the fields of its lines, or the words of its complaint."""
    assert main(list(words)) == status
    found = output.readouterr()
    return [line.split("\t") for line in (found.err if status else found.out).splitlines()]


def test_users_groups_and_rules_come_and_go(
    config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "group", "add", "dev")
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    run(capsys, "user", "add", "--group", "dev", "alice", "--password-stdin")
    monkeypatch.setattr("sys.stdin", io.StringIO("other\n"))
    run(capsys, "user", "passwd", "--password-stdin", "alice")
    run(capsys, "user", "disable", "alice")
    assert run(capsys, "user", "ls")[0][:3] == ["alice", "disabled", "dev"]
    run(capsys, "user", "enable", "alice")
    run(capsys, "group", "leave", "alice", "dev")
    run(capsys, "group", "join", "alice", "dev")
    assert run(capsys, "group", "ls") == [["dev", "alice"]]
    assert run(capsys, "rule", "add", "group:dev", "$group/**", "pull,push") == [["1"]]
    run(capsys, "rule", "add", "user:alice", "catalog", "all", "--type", "registry")
    assert run(capsys, "rule", "ls") == [
        ["1", "group:dev", "repository", "$group/**", "pull,push"],
        ["2", "user:alice", "registry", "catalog", "*,search"],
    ]
    run(capsys, "rule", "rm", "2")
    run(capsys, "group", "rm", "dev")
    run(capsys, "user", "rm", "alice")
    for kind in ("user", "group", "rule", "session"):
        assert run(capsys, kind, "ls") == []
    (key,) = run(capsys, "key", "ls")
    assert (key[1], key[3]) == ("ES256", "signs")
    (new,) = run(capsys, "key", "rotate")[0]
    assert [row[0] for row in run(capsys, "key", "ls")] == [key[0], new]


def test_users_of_a_password_file_are_taken_over(config: Path, capsys: Output) -> None:
    path = config.with_name("htpasswd")
    path.write_text(
        "bob:$2y$05$abcdefghijklmnopqrstuuVC0ytQgNPyjTl0jWhrBAXn8tUMTDD6i\nold:{SHA}x\n"
    )
    assert run(capsys, "user", "import", str(path)) == [["bob"]]
    assert [row[0] for row in run(capsys, "user", "ls")] == ["bob"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["user", "fly"], "the actions are add, disable"),
        (["user", "add"], "NAME expected, 0 given"),
        (["user", "rm", "nobody"], "user nobody is not there"),
        (["user", "import", "/none"], "No such file"),
        (["rule", "add", "me", "x", "pull"], "'me' is nobody"),
        (["rule", "rm", "x"], "'x' is no number of a rule"),
        (["session", "rm", "x"], "there is no such login"),
        (["session", "rm", "-u", "x"], "there is no such login"),
        (["group", "join", "a"], "USER GROUP expected, 1 given"),
    ],
)
def test_what_cannot_be_done_is_said(
    config: Path, capsys: Output, words: list[str], complaint: str
) -> None:
    assert complaint in run(capsys, *words, status=1)[0][0]


def test_a_password_is_not_asked_for_without_a_terminal(
    config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "--password-stdin" in run(capsys, "user", "add", "alice", status=1)[0][0]


def test_a_configuration_without_tokens_has_no_accounts(config: Path, capsys: Output) -> None:
    config.write_text("version: 0.1\nstorage: inmemory\n")
    assert "no section `tokens`" in run(capsys, "user", "ls", status=1)[0][0]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("tokens: {issuer: x}", "tokens.directory: is required"),
        ("tokens: {directory: x, issuer: x, services: [x], path: x}", "must begin with a slash"),
        ("tokens: {directory: x, issuer: x, services: [x], lifetime: 5s}", "at least a minute"),
        ("tokens: {directory: x, issuer: x, services: [x], keys: {algorithm: HS256}}", "must be"),
    ],
)
def test_a_wrong_section_is_refused(
    config: Path, capsys: Output, more: str, complaint: str
) -> None:
    config.write_text(f"version: 0.1\n{more}\n")
    assert any(complaint in row[0] for row in run(capsys, "verify", status=1))


def test_a_directory_that_cannot_be_used_is_named(config: Path, capsys: Output) -> None:
    config.with_name("tokens").write_text("no folder")
    (complaint,) = run(capsys, "user", "ls", status=1)
    assert complaint[0].startswith("sampan-registry: tokens.directory: ")
    assert main(["serve", str(config)]) == 1
    assert "tokens.directory" in capsys.readouterr().err
    config.with_name("tokens").unlink()
    config.with_name("tokens").mkdir()
    config.with_name("tokens").joinpath("accounts.db").write_text("no database " * 100)
    assert "not a database" in run(capsys, "user", "ls", status=1)[0][0]
