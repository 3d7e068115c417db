"""Logins in config.json and with credential helpers."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sampan.cli.commands import logout
from sampan.cli.invocation import Exit, Invocation
from sampan.cli.logins.credentials import Login, erase, find, hostname, save
from sampan.cli.logins.registry_auth import HUB_KEY, authorization
from sampan.errors import Internal, InvalidArgument

HELPER = """#!/bin/sh
# Keeps one file per server, named after it, below $KEPT.
read -r line
case $1 in
get) cat "$KEPT/$(echo "$line" | tr / _)" 2>/dev/null ||
    { echo "credentials not found in native keychain"; exit 1; } ;;
store) echo "$line" > "$KEPT/last"; server=$(echo "$line" | sed 's/.*"ServerURL":"//; s/".*//')
    echo "$line" > "$KEPT/$(echo "$server" | tr / _)" ;;
erase) rm "$KEPT/$(echo "$line" | tr / _)" 2>/dev/null || { echo "cannot erase"; exit 3; } ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "kept").mkdir()
    (programs / "docker-credential-files").write_text(HELPER)
    (programs / "docker-credential-files").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(tmp_path / "kept"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def settings(folder: Path, **values: Any) -> Invocation:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return Invocation()


def document(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text))


def entry(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_a_login_is_kept_where_only_its_owner_reads_it(folder: Path) -> None:
    cli = Invocation()
    save(cli, Login("host:5000", "me", "pass:word"))
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    again = find(Invocation(), "host:5000")
    assert (again.name, again.password, again.server) == ("me", "pass:word", "host:5000")
    assert os.listdir(folder) == ["config.json"]


def test_other_settings_stay_and_loose_permissions_do_not(folder: Path) -> None:
    cli = settings(folder, psFormat="x", auths={"other": entry("a", "b")}, unknown=[1, {"é": 2}])
    (folder / "config.json").chmod(0o644)
    save(cli, Login("host", "me", "secret"))
    written = json.loads((folder / "config.json").read_bytes())
    assert (written["psFormat"], written["unknown"]) == ("x", [1, {"é": 2}])
    assert written["auths"] == {"other": entry("a", "b"), "host": entry("me", "secret")}
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o600


def test_a_link_to_the_settings_stays_a_link(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "config.json").symlink_to(tmp_path / "real.json")
    save(Invocation(), Login("host", "me", "secret"))
    assert (folder / "config.json").is_symlink()
    assert "host" in json.loads((tmp_path / "real.json").read_bytes())["auths"]


def test_settings_that_cannot_be_read_are_not_overwritten(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"auths": {')
    with pytest.raises(Exit, match="refusing to overwrite"):
        save(Invocation(), Login("host", "me", "secret"))
    assert (folder / "config.json").read_text() == '{"auths": {'


def test_a_failed_write_leaves_the_old_settings_and_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = settings(folder, auths={"other": entry("a", "b")})

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(OSError, match="no space"):
        save(cli, Login("host", "me", "secret"))
    assert os.listdir(folder) == ["config.json"]
    assert json.loads((folder / "config.json").read_bytes())["auths"] == {"other": entry("a", "b")}


def test_identity_tokens_take_the_place_of_passwords(folder: Path) -> None:
    save(Invocation(), Login("host", "me", "", "token"))
    assert json.loads((folder / "config.json").read_bytes())["auths"]["host"] == {
        **entry("me", ""),
        "identitytoken": "token",
    }
    assert find(Invocation(), "host").token == "token"


def test_the_hub_has_a_key_of_its_own(folder: Path) -> None:
    cli = settings(folder, auths={HUB_KEY: entry("hub", "pw"), "host:5000": entry("me", "x")})
    for domain in ("docker.io", "index.docker.io"):
        assert document(authorization(cli, domain)) == {
            "username": "hub",
            "password": "pw",
            "serveraddress": HUB_KEY,
        }
    assert document(authorization(cli, "host:5000"))["username"] == "me"
    assert authorization(cli, "elsewhere") == ""


def test_keys_of_old_versions_are_understood(folder: Path) -> None:
    cli = settings(folder, auths={"https://host/v1/": entry("old", "x")})
    assert find(cli, "host").name == "old"


@pytest.mark.parametrize("auth", ["%%%", "bm8tY29sb24=", "Om9ubHk=", "/w=="])
def test_a_broken_login_is_an_error_where_it_is_asked_for(folder: Path, auth: str) -> None:
    cli = settings(folder, auths={"host": {"auth": auth}})
    with pytest.raises(InvalidArgument):
        authorization(cli, "host", strict=True)
    assert authorization(cli, "host") == ""
    assert authorization(cli, "other", strict=True) == ""


@pytest.mark.parametrize("wrong", [{"auths": []}, {"auths": {"host": 1}}, {"credHelpers": 3}])
def test_settings_of_wrong_types_are_no_login(folder: Path, wrong: dict[str, Any]) -> None:
    assert authorization(settings(folder, **wrong), "host", strict=True) == ""


def test_a_helper_keeps_logins_and_the_file_does_not(folder: Path, tmp_path: Path) -> None:
    cli = settings(folder, credsStore="files")
    save(cli, Login("host:5000", "me", "secret"))
    assert json.loads((tmp_path / "kept/last").read_bytes()) == {
        "ServerURL": "host:5000",
        "Username": "me",
        "Secret": "secret",
    }
    assert json.loads((folder / "config.json").read_bytes())["auths"] == {"host:5000": {}}
    login = find(cli, "host:5000")
    assert (login.name, login.password, login.server) == ("me", "secret", "host:5000")
    assert find(cli, "elsewhere").document() == {}
    erase(cli, "host:5000")
    assert find(cli, "host:5000").document() == {}
    with pytest.raises(Internal, match="err: exit status 3, out: `cannot erase`"):
        erase(cli, "host:5000")


def test_a_helper_keeps_tokens_under_a_special_name(folder: Path, tmp_path: Path) -> None:
    cli = settings(folder, credHelpers={"host": "files"}, auths={"other": entry("a", "b")})
    save(cli, Login("host", "me", "", "token"))
    assert json.loads((tmp_path / "kept/host").read_bytes())["Username"] == "<token>"
    assert document(authorization(cli, "host")) == {
        "identitytoken": "token",
        "serveraddress": "host",
    }
    assert find(cli, "other").name == "a"


def test_a_helper_that_is_missing_says_so(folder: Path) -> None:
    cli = settings(folder, credsStore="no/such")
    with pytest.raises(Internal, match=r"executable file not found in \$PATH"):
        find(cli, "host")
    assert authorization(cli, "host") == ""
    with pytest.raises(Internal):
        authorization(cli, "host", strict=True)


@pytest.mark.parametrize("body", ["exit 1", "echo '[]'", "echo '{'", "kill -9 $$", "true"])
def test_a_helper_that_is_broken_is_an_error(folder: Path, tmp_path: Path, body: str) -> None:
    program = tmp_path / "programs/docker-credential-broken"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    cli = settings(folder, credsStore="broken")
    with pytest.raises(Internal, match="error getting credentials"):
        find(cli, "host")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("host", "host"),
        ("host:5000/v1/", "host:5000"),
        ("https://host/v2/", "host"),
        ("https://host:443", "host:443"),
        ("http://[::1]:5000/x", "[::1]:5000"),
        ("http://host:port/", "http:"),
    ],
)
def test_a_server_is_known_by_its_host(server: str, expected: str) -> None:
    assert hostname(server) == expected


def test_what_somebody_else_stored_meanwhile_stays(folder: Path) -> None:
    first, second = settings(folder, auths={"old": entry("a", "b")}), Invocation()
    assert (first.settings, second.settings) == (second.settings, first.settings)
    save(first, Login("one", "me", "x"))
    save(second, Login("two", "me", "y"))
    erase(first, "old")
    found = json.loads((folder / "config.json").read_bytes())["auths"]
    assert found == {"one": entry("me", "x"), "two": entry("me", "y")}


def test_logging_out_of_the_hub_forgets_the_tokens_of_a_web_login(folder: Path) -> None:
    keys = {f"{HUB_KEY}{name}": entry("me", "x") for name in ("", "access-token", "refresh-token")}
    cli = settings(folder, auths={**keys, "other": entry("a", "b")})
    logout.run(cli, logout.Options(), [])
    found = json.loads((folder / "config.json").read_bytes())["auths"]
    assert found == {"other": entry("a", "b")}
