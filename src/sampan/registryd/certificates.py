"""Certificates for the server: keys as granian reads them, and a look whether files changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sampan.errors import InvalidArgument
from sampan.registry.serving.server import TLS


class Certificates:
    """Copies of configured files in a private folder, which a server reads.

    The key becomes PKCS #8 whatever it was, and the client authorities one file.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        authorities: Sequence[str],
        minimum: str,
        optional: bool = False,
    ) -> None:
        """With `optional` a client need not have a certificate of the authorities."""
        self._sources = (certificate, key, *map(Path, authorities))
        self._minimum = minimum
        self._optional = optional
        self._folder = tempfile.TemporaryDirectory(prefix="sampan-registry-tls-")  # mode 0700
        self._seen: tuple[tuple[int, int, int], ...] = ()
        try:
            self.tls = self.read()
        except BaseException:
            self._folder.cleanup()
            raise

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
        folder = Path(self._folder.name)
        self._write(folder / "server.key", pem)
        self._write(folder / "server.pem", chain)
        if authorities:
            self._write(folder / "clients.pem", trusted)
        self._seen = stamps
        self.tls = TLS(
            folder / "server.pem",
            folder / "server.key",
            folder / "clients.pem" if authorities else None,
            self._minimum,
            self._optional,
        )
        return self.tls

    def _write(self, path: Path, content: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()
