"""What outlasts a restart: the account's key, and the certificate."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sampan.errors import InvalidArgument
from sampan.registryd.acme.challenge import private_pem
from sampan.registryd.acme.folder import Folder
from tests.acme_server import Authority

HOSTS = ["one.example.com", "two.example.com"]


def issued(life: float = 90 * 86400.0) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    return private_pem(key), Authority().sign(HOSTS, key.public_key(), 0.0, life)


def test_a_certificate_is_kept_and_renewed_when_a_third_is_left(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "cache", HOSTS)
    assert folder.certificate() is None
    folder.keep(*issued())
    found = Folder(tmp_path / "cache", HOSTS).certificate()
    assert found
    assert found.hosts == set(HOSTS)
    assert (found.ends - found.renewal).days == 30
    assert folder.certificate_path.stat().st_mode & 0o777 == 0o600


def test_a_torn_or_foreign_file_is_no_certificate(tmp_path: Path) -> None:
    folder = Folder(tmp_path, HOSTS)
    (key, _), (_, chain) = issued(), issued()
    for content in (b"", b"nothing", key, chain, key + chain, chain[:300]):
        folder.certificate_path.write_bytes(content)
        assert folder.certificate() is None


def test_the_account_stays_the_same(tmp_path: Path) -> None:
    first = Folder(tmp_path, HOSTS).account()
    again = Folder(tmp_path, HOSTS).account()
    assert private_pem(first) == private_pem(again)
    (tmp_path / "acme_account+key").write_text("torn")
    with pytest.raises(InvalidArgument):
        Folder(tmp_path, HOSTS).account()


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("{}")
    with pytest.raises(InvalidArgument, match="must be a folder"):
        Folder(tmp_path / "cache", HOSTS)
