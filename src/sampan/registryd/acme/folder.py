"""What has to outlast a restart: the key of the account, and the certificate with its key.

The files are those of autocert, which docker-registry 3.x uses: either can go on with them.
"""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sampan.errors import InvalidArgument
from sampan.registryd.acme.challenge import private_pem

ACCOUNT = "acme_account+key"


@dataclass(frozen=True)
class Certificate:
    """What we have: for whom, and how long."""

    begins: datetime.datetime
    ends: datetime.datetime
    hosts: frozenset[str]

    @property
    def renewal(self) -> datetime.datetime:
        """When it is time for the next: when a third of its life is left."""
        return self.ends - (self.ends - self.begins) / 3


class Folder:
    """The cache of one registry's certificates."""

    def __init__(self, path: Path, hosts: Sequence[str]) -> None:
        """Raises InvalidArgument if there can be no such folder."""
        self._path = path
        self._hosts = tuple(hosts)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidArgument(
                f"http.tls.letsencrypt.cachefile: {path} must be a folder: {error.strerror}"
            ) from None

    @property
    def certificate_path(self) -> Path:
        """The file of the key and the certificate."""
        return self._path / self._hosts[0]

    def certificate(self) -> Certificate | None:
        """Return the certificate that is here, if only an old one; None if there is none."""
        try:
            pem = self.certificate_path.read_bytes()
            leaf = x509.load_pem_x509_certificates(pem)[0]
            key = serialization.load_pem_private_key(pem, None)
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, IndexError, x509.ExtensionNotFound):
            return None
        hosts = frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
        if key.public_key() != leaf.public_key():
            return None
        return Certificate(leaf.not_valid_before_utc, leaf.not_valid_after_utc, hosts)

    def keep(self, key: bytes, chain: bytes) -> None:
        """Keep a new certificate, in place of the old one."""
        self._write(self.certificate_path, key + chain)

    def account(self) -> ec.EllipticCurvePrivateKey:
        """Return the key of our account; one that is made now if there is none."""
        path = self._path / ACCOUNT
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError:
            key = ec.generate_private_key(ec.SECP256R1())
            self._write(path, private_pem(key))
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"{path}: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidArgument(f"{path}: must be a key of the curve P-256")
        return key

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
