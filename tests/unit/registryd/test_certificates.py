from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from sampan.errors import InvalidArgument
from sampan.http.tls import Clients
from sampan.registryd.certificates import Certificates, Terms

CA = trustme.CA()


def write(folder: Path) -> tuple[Path, Path]:
    issued = CA.issue_cert("localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return chain, key


def test_any_key_becomes_pkcs_8(tmp_path: Path) -> None:
    chain, key = write(tmp_path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    found = Certificates(chain, key, [], Terms()).tls.key
    assert b"BEGIN PRIVATE KEY" in found
    assert serialization.load_pem_private_key(found, None).public_key() == private.public_key()


def test_changed_files_are_noticed_and_broken_ones_refused(tmp_path: Path) -> None:
    chain, key = write(tmp_path)
    certificates = Certificates(chain, key, [], Terms())
    assert not certificates.changed()
    write(tmp_path)
    os.utime(chain, (1, 1))
    assert certificates.changed()
    certificates.read()
    assert not certificates.changed()
    key.write_text("broken")
    assert certificates.changed()
    with pytest.raises(InvalidArgument, match=r"http\.tls"):
        certificates.read()
    key.unlink()
    assert not certificates.changed()  # being replaced


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    chain, key = write(tmp_path)
    key.write_bytes(CA.issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(InvalidArgument, match="not that of the certificate"):
        Certificates(chain, key, [], Terms())


def test_authorities_of_clients_are_one_file(tmp_path: Path) -> None:
    chain, key = write(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(trustme.CA().cert_pem.bytes())
    listed = [str(tmp_path / name) for name in ("a", "b")]
    certificates = Certificates(chain, key, listed, Terms(Clients.VERIFY))
    assert certificates.tls.authorities.count(b"BEGIN CERTIFICATE") == 2
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    with pytest.raises(InvalidArgument, match=r"http\.tls"):
        Certificates(chain, key, listed, Terms(Clients.VERIFY))
