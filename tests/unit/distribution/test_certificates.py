"""The folders of certs.d."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from sampan.distribution.certificates import Certificates
from sampan.errors import InvalidArgument

HOST = "a.example:5000"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / HOST).mkdir()
    return tmp_path / HOST


def context(folder: Path, *names: str, is_insecure: bool = False) -> ssl.SSLContext:
    return Certificates([folder.parent]).context(names or (HOST,), is_insecure=is_insecure)


def subjects(context: ssl.SSLContext) -> list[object]:
    return [certificate["subject"] for certificate in context.get_ca_certs()]


def test_authorities_of_a_host_are_trusted(folder: Path, authority: trustme.CA) -> None:
    before = subjects(context(folder))
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    assert len(subjects(context(folder))) == len(before) + 1
    assert len(subjects(context(folder, "b.example"))) == len(before)
    assert context(folder).verify_mode == ssl.CERT_REQUIRED
    assert context(folder).check_hostname


def test_an_insecure_host_need_not_be_known(folder: Path) -> None:
    assert context(folder, is_insecure=True).verify_mode == ssl.CERT_NONE


def test_a_changed_folder_is_read_again(folder: Path, authority: trustme.CA) -> None:
    certificates = Certificates([folder.parent])
    first = certificates.context([HOST], is_insecure=False)
    assert certificates.context([HOST], is_insecure=False) is first
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    assert certificates.context([HOST], is_insecure=False) is not first


def test_a_certificate_of_the_client_needs_its_key(folder: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert("client@example.com")
    (folder / "client.cert").write_bytes(issued.cert_chain_pems[0].bytes())
    with pytest.raises(InvalidArgument, match=r"missing key client.key for client certificate"):
        context(folder)
    (folder / "client.key").write_bytes(issued.private_key_pem.bytes())
    context(folder)
    (folder / "client.cert").unlink()
    with pytest.raises(InvalidArgument, match=r"missing client certificate client.cert for key"):
        context(folder)


def test_a_file_that_is_no_certificate_is_named(folder: Path) -> None:
    (folder / "ca.crt").write_text("nonsense")
    with pytest.raises(InvalidArgument, match=r"ca\.crt"):
        context(folder)
