"""Root's commands on a registry that another user serves."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from sampan.registry.registry import Registry
from sampan.registry.tokens import accounts
from sampan.registryd.main import main
from sampan.registryd.owner import as_owner
from tests.own_registry import serving

pytestmark = pytest.mark.privileged
NOBODY = 65534
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {0}/data}}}}
http: {{addr: "127.0.0.1:0"}}
tokens: {{directory: {0}/tokens, issuer: desk, services: [hub]}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nobody's registry has its own folders."""
    (tmp_path / "config.yml").write_text(CONFIG.format(tmp_path))
    for place in (tmp_path, *tmp_path.parents[:3]):  # pytest's are root's alone
        place.chmod(place.stat().st_mode | 0o011)
    for name in ("data", "tokens"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, NOBODY, NOBODY)
    monkeypatch.setenv("REGISTRY_CONFIGURATION_PATH", str(tmp_path / "config.yml"))
    monkeypatch.setattr(accounts, "ROUNDS", 4)
    return tmp_path


def _add_user(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    return main(["user", "add", "--password-stdin", "alice"])


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_symlink()]


def test_what_roots_commands_make_is_the_owners(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _add_user(monkeypatch) == 0
    assert main(["key", "rotate"]) == 0
    with as_owner(folder / "data"), Registry.on_filesystem(str(folder / "data")) as registry:
        with serving(registry) as shop:
            shop.push("team/app", "1")
    assert main(["garbage-collect", str(folder / "config.yml")]) == 0
    made = [*_files(folder / "tokens"), *_files(folder / "data")]
    assert {path.stat().st_uid for path in made} == {NOBODY}
    assert os.geteuid() == 0


@pytest.mark.parametrize("name", ["accounts.db", "accounts.db-wal", "keys/lock", "keys/root.pem"])
def test_no_link_leads_roots_commands_to_a_file_of_roots(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kept, tokens = folder / "kept", folder / "tokens"
    kept.touch(mode=0o600)
    (tokens / "keys").mkdir()
    os.chown(tokens / "keys", NOBODY, NOBODY)
    (tokens / name).symlink_to(kept)
    _add_user(monkeypatch)
    main(["key", "rotate"])
    found = kept.stat()
    assert (found.st_uid, found.st_mode & 0o777, found.st_size) == (0, 0o600, 0)


def test_garbage_is_collected_by_whoever_has_written(folder: Path) -> None:
    with Registry.on_filesystem(str(folder / "data")) as registry, serving(registry) as shop:
        shop.push("team/app", "1")  # by root, as docker-registry in a container does
    assert main(["garbage-collect", str(folder / "config.yml")]) == 0
    for path in _files(folder / "data"):
        os.chown(path, NOBODY, NOBODY)
    (folder / "data/sampan/lock").unlink()
    (folder / "data/sampan/lock").symlink_to(folder / "kept")
    assert main(["garbage-collect", str(folder / "config.yml")]) != 0
    assert not (folder / "kept").exists()


def test_a_list_of_users_may_be_roots_alone(folder: Path) -> None:
    listed = folder / "htpasswd"
    listed.write_text("alice:$2y$04$abcdefghijklmnopqrstuu\n")
    listed.chmod(0o600)
    assert main(["user", "import", str(listed)]) == 0
