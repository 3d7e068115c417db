from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from sampan.errors import InvalidArgument
from sampan.registry.auth.token import Trusted, TrustedFiles
from sampan.registry.tokens import keys as module
from sampan.registry.tokens.keys import KeyRing

LIFETIME, INTERVAL = 300.0, 86400.0


class Clock:
    now = 1_790_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def ring(folder: Path, algorithm: str = "ES256") -> KeyRing:
    return KeyRing(folder, algorithm, LIFETIME, INTERVAL)


def verified(token: str, trusted: Trusted | TrustedFiles) -> Any:
    key = trusted.key(jwt.get_unverified_header(token))
    assert key, "nobody trusts this key"
    return jwt.decode(token, key, ["ES256", "RS256"], options={"verify_exp": False})


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
@pytest.mark.parametrize("chain", [True, False])
def test_a_registry_verifies_what_it_signs(tmp_path: Path, algorithm: str, chain: bool) -> None:
    made = ring(tmp_path, algorithm)
    token = made.sign({"sub": "alice"}, chain)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert verified(token, Trusted.read("", str(tmp_path / "jwks.json"))) == {"sub": "alice"}
    if chain:
        assert verified(token, Trusted.read(str(tmp_path / "root.pem"), ""))
    assert made.key_set() == (tmp_path / "jwks.json").read_bytes()
    assert b'"d"' not in made.key_set()


def test_keys_stay_across_starts_and_are_for_their_owner(tmp_path: Path) -> None:
    token = ring(tmp_path / "keys").sign({}, True)
    again = ring(tmp_path / "keys")
    assert len(again.published()) == 1
    verified(token, Trusted.read(str(tmp_path / "keys/root.pem"), ""))
    for path in (tmp_path / "keys").iterdir():
        public = path.name in ("root.pem", "jwks.json")
        assert public or path.stat().st_mode & 0o077 == 0, path


def test_a_new_key_is_heard_of_before_it_signs_and_an_old_one_after(
    tmp_path: Path, clock: Clock
) -> None:
    made = ring(tmp_path)
    trusted = TrustedFiles("", str(tmp_path / "jwks.json"))
    first = made.current().id
    made.tend()
    assert [key.id for key in made.published()] == [first]
    clock.now += INTERVAL + 1
    made.tend()
    assert made.published()[0].id == first
    assert len(made.published()) == 2
    token = made.sign({}, False)
    assert jwt.get_unverified_header(token)["kid"] == first
    clock.now += module.ANNOUNCED + 1
    made.tend()
    assert made.current().id != first
    verified(made.sign({}, False), trusted)
    verified(token, trusted)  # which is valid for a while
    clock.now += LIFETIME + 100
    made.tend()
    assert first not in [key.id for key in made.published()]
    assert trusted.key({"kid": first}) is None
    # Who trusts the root needs no news.
    verified(made.sign({}, True), Trusted.read(str(tmp_path / "root.pem"), ""))


def test_a_command_rotates_under_a_service(tmp_path: Path, clock: Clock) -> None:
    service, command = ring(tmp_path), ring(tmp_path)
    first = service.current().id
    clock.now += 5
    new = command.rotate()
    assert [key.id for key in service.published()] == [first, new]
    assert service.current().id == first
    stolen = service.sign({}, False)
    clock.now += 5
    latest = command.rotate(now=True)
    assert [key.id for key in service.published()] == [latest]
    assert service.current().id == latest
    trusted = Trusted.read("", str(tmp_path / "jwks.json"))
    assert trusted.key(jwt.get_unverified_header(stolen)) is None


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    ring(tmp_path)
    (tmp_path / "signing-1-x.pem").write_text("nonsense")
    with pytest.raises(InvalidArgument, match="no signing key"):
        ring(tmp_path)


def test_trusted_files_that_break_are_kept_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kid = ring(tmp_path).current().id
    path = tmp_path / "jwks.json"
    trusted = TrustedFiles("", str(path))
    good = path.read_text()
    for broken in ("{", json.dumps({"keys": []})):
        path.write_text(broken)
        assert trusted.key({"kid": kid})
        assert "not read anew" in caplog.text
    path.unlink()
    assert trusted.key({"kid": kid})
    path.write_text(good)
    assert trusted.key({"kid": kid})


def test_keys_that_were_removed_are_made_anew(tmp_path: Path, clock: Clock) -> None:
    made = ring(tmp_path)
    first = made.current().id
    for path in tmp_path.glob("signing-*"):
        path.unlink()
    made.tend()
    assert made.current().id != first
    verified(made.sign({}, True), Trusted.read(str(tmp_path / "root.pem"), ""))


@pytest.mark.parametrize("wrong", [365 * 86400.0, 14 * 365 * 86400.0, -1800.0])
def test_what_is_signed_is_valid_whatever_the_clock_was_before(
    tmp_path: Path, clock: Clock, wrong: float
) -> None:
    made = ring(tmp_path)
    first = made.current().id
    clock.now += wrong
    for _ in range(3):
        made.tend()
        key = made.current()
        valid = key.certificate
        assert valid.not_valid_before_utc.timestamp() <= clock.now
        assert clock.now <= valid.not_valid_after_utc.timestamp()
        clock.now += module.ANNOUNCED + made._retired
    clock.now -= wrong
    later = ring(tmp_path)
    for _ in range(2):
        key = later.current()
        assert key.certificate.not_valid_before_utc.timestamp() <= clock.now
        clock.now += INTERVAL + 1
        later.tend()  # which makes the next one, though there is one of the future
        clock.now += module.ANNOUNCED + 1
        assert later.current().id not in (first, key.id)
