from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sampan.registryd.main import main

WITHOUT = "import sys; sys.modules[{!r}] = None; from sampan.registryd.main import main; "


def test_a_configuration_has_to_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_CONFIGURATION_PATH", raising=False)
    assert main(["verify"]) == 1
    assert "configuration path unspecified" in capsys.readouterr().err


def test_the_environment_names_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yml"
    path.write_text("version: 0.1\nstorage: inmemory\n")
    monkeypatch.setenv("REGISTRY_CONFIGURATION_PATH", str(path))
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"
    path.write_text("version: 0.1\nstorage: inmemory\nredis: {addrs: ['localhost:6379']}\n")
    assert main(["verify"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{path}: ok\n"
    assert told.err == f"{path}: redis: is not used: storage.cache.blobdescriptor is not redis\n"
    token = "{realm: r, service: s, issuer: i, jwks: k, signingalgorithms: [ES256, none]}"
    path.write_text(f"version: 0.1\nstorage: inmemory\nauth: {{token: {token}}}\n")
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == f"{path}: signing algorithms none are not taken\n"


AUTH = {
    "bcrypt": "auth: {htpasswd: {realm: r, path: /none/users}}",
    "jwt": "auth: {token: {realm: r, service: s, issuer: i, rootcertbundle: /none}}",
}


@pytest.mark.parametrize("module", ["starlette", "yaml", *AUTH])
def test_what_is_not_installed_is_named(module: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    auth = AUTH.get(module, "")
    path.write_text(f"version: 0.1\nstorage: inmemory\nhttp: {{addr: '127.0.0.1:0'}}\n{auth}\n")
    program = WITHOUT.format(module) + f"sys.exit(main(['serve', {str(path)!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"sampan-registry: {module}")
    assert done.stderr.endswith("is missing: install sampan[registry]\n")


def test_a_start_loads_nothing_that_the_configuration_does_not_want() -> None:
    """Each of these takes 5 to 60 ms."""
    program = "import sys, sampan.registryd.commands; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "sampan.registryd.serve" in loaded
    unwanted = {"cryptography", "jwt", "bcrypt", "prometheus_client", "smtplib", "jinja2"}
    unwanted |= {"granian", "psycopg", "botocore", "sampan.distribution", "sampan.registryd.acme"}
    unwanted |= {f"sampan.registry.{name}" for name in ("proxy.proxy", "tokens", "auth.token")}
    assert loaded & unwanted == set()


def test_a_library_that_only_some_configurations_need_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "version: 0.1\nredis: {addr: localhost}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}}},"
        " cache: {blobdescriptor: redis}}\n"
    )
    for command in ("verify", "serve"):
        program = WITHOUT.format("redis") + f"sys.exit(main(['{command}', '{path}']))"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert "redis: redis is missing: install sampan[registry-redis]\n" in done.stderr


SIGN_IN = """version: 0.1
storage: inmemory
web: {enabled: true}
auth: {token: {service: s, issuer: i, rootcertbundle: x, %s}}
%s
"""
OWN = "tokens: {directory: /none, issuer: i, services: [%s]}"


@pytest.mark.parametrize(
    ("realm", "more", "status"),
    [
        ("autoredirect: true", "", 1),
        ("autoredirect: true", OWN % "other", 1),
        ("realm: /auth/token", "", 1),
        ("autoredirect: true", OWN % "s", 0),
        ("realm: 'https://auth.example.com/token'", "", 0),
    ],
)
def test_pages_need_a_place_where_users_sign_in(
    realm: str, more: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(SIGN_IN % (realm, more))
    assert main(["verify", str(path)]) == status
    told = f"{path}: web: users sign in at auth.token.realm, which must be an address\n"
    assert capsys.readouterr().err == (told if status else "")


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["nope"])


def test_a_configuration_shows_a_terminal_nothing_but_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yml"
    rest = "version: 0.1\nstorage: inmemory\n"
    path.write_text(rest + '"\\e]0;title\\a": 1\n')
    assert main(["verify", str(path)]) == 1
    assert capsys.readouterr().err == f"{path}: \\x1b]0;title\\x07: is not known\n"
    path.write_text(rest + "proxy: {remoteurl: 'https://user:secret@host'}\n")
    for command in ("verify", "serve"):
        assert main([command, str(path)]) == 1
        assert "'https://xxxxx:xxxxx@host' is no address" in capsys.readouterr().err
