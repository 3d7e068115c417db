"""Certificates for the server: from files, and a look whether those changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sampan.errors import InvalidArgument
from sampan.http.tls import TLS, Clients


@dataclass(frozen=True)
class Terms:
    """How TLS is spoken, with whatever certificate: see TLS."""

    clients: Clients = Clients.NOBODY
    minimum: str = "tls1.2"
    ciphers: Sequence[str] = ()


class Certificates:
    """What is in the configured files. Keys stay in memory, as PKCS #8 whatever they were."""

    def __init__(
        self, certificate: Path, key: Path, authorities: Sequence[str], terms: Terms
    ) -> None:
        """Raises InvalidArgument, as `read` does."""
        self._sources = (certificate, key, *map(Path, authorities))
        self._terms = terms
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self.tls = self.read()

    def changed(self) -> bool:
        """Tell whether a file is another than the one that was read."""
        return self._stamps() != self._seen

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        try:
            found = [path.stat() for path in self._sources]
        except OSError:  # being replaced: look again later
            return self._seen
        return tuple((f.st_mtime_ns, f.st_size, f.st_ino) for f in found)

    def read(self) -> TLS:
        """Read the files; raise InvalidArgument if they do not go together."""
        stamps = self._stamps()
        certificate, key, *authorities = self._sources
        try:
            chain = certificate.read_bytes()
            first = x509.load_pem_x509_certificates(chain)[0]
            private = serialization.load_pem_private_key(key.read_bytes(), None)
            if private.public_key() != first.public_key():
                raise ValueError("the key is not that of the certificate")
            trusted = b"\n".join(path.read_bytes() for path in authorities)
            if authorities:
                x509.load_pem_x509_certificates(trusted)
        except (OSError, ValueError, TypeError) as error:
            raise InvalidArgument(f"http.tls: {error}") from error
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        terms = self._terms
        self._seen = stamps
        self.tls = TLS(chain, pem, trusted, terms.clients, terms.minimum, terms.ciphers)
        return self.tls
