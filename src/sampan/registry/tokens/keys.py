"""Keys of a token service: one root that registries trust, and signing keys that come and go.

A folder: `root.pem` is a registry's `rootcertbundle`, `jwks.json` its `jwks`. A new key is in
`jwks.json` for a while before it signs, and an old one until nothing that it signed is valid.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from sampan.errors import InvalidArgument
from sampan.registry.auth.token import LEEWAY, key_ids

log = logging.getLogger(__name__)
ANNOUNCED = 600.0  # seconds that a new key is published before it signs
ROOT_DAYS, KEY_DAYS = 7300, 3650
RSA_BITS = 2048
ROOT, KEY_SET = "root.pem", "jwks.json"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class SigningKey:
    """A key with the certificate that the root gave it."""

    made: float  # seconds since the epoch
    private: PrivateKey
    certificate: x509.Certificate
    path: Path

    @property
    def id(self) -> str:
        """What tokens call it: libtrust's fingerprint, which docker-registry 2.x looks for."""
        return key_ids(self.private.public_key())[0]

    @property
    def algorithm(self) -> str:
        return "ES256" if isinstance(self.private, ec.EllipticCurvePrivateKey) else "RS256"

    def public(self) -> dict[str, Any]:
        """Return the JSON Web Key."""
        key = self.private.public_key()
        text = (
            jwt.algorithms.ECAlgorithm.to_jwk(key)
            if isinstance(key, ec.EllipticCurvePublicKey)
            else jwt.algorithms.RSAAlgorithm.to_jwk(key)
        )
        more = {"kid": self.id, "alg": self.algorithm, "use": "sig"}
        return {**json.loads(text), "key_ops": ["verify"], **more}


class KeyRing:
    """The keys in a folder, which commands may change beside the service."""

    def __init__(self, folder: Path, algorithm: str, lifetime: float, interval: float) -> None:
        """`lifetime` of tokens and `interval` of rotation are seconds; 0: only by command."""
        self._folder = folder
        self._algorithm = algorithm
        self._retired = lifetime + LEEWAY
        self._interval = interval
        self._guard = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: list[SigningKey] = []
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._changing():
            if not (folder / ROOT).exists():
                self._make_root()
            if not self._read():
                self._make_key()
            self._publish()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Be the only process that changes the folder."""
        descriptor = os.open(
            self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def published(self) -> list[SigningKey]:
        """Return the published keys, the oldest first."""
        with self._guard:
            try:
                found = (self._folder / KEY_SET).stat()
            except FileNotFoundError:  # somebody removed it; the next rotation writes it again
                return self._keys
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._keys, self._stamp = self._read(), stamp
            return self._keys

    def current(self) -> SigningKey:
        """Return the key that signs: the newest that everybody has had time to hear of."""
        keys = _valid(self.published())
        if not keys:
            self.tend()
            keys = _valid(self.published())
        if not keys:
            raise OSError(f"{self._folder} has no signing key")
        known = [key for key in keys if key.made <= time.time() - ANNOUNCED]
        return known[-1] if known else keys[0]

    def sign(self, claims: dict[str, Any], chain: bool) -> str:
        """Return a token; with `chain` it carries the key's certificate."""
        key = self.current()
        headers: dict[str, Any] = {"kid": key.id}
        if chain:
            der = key.certificate.public_bytes(serialization.Encoding.DER)
            headers["x5c"] = [base64.b64encode(der).decode()]
        return jwt.encode(claims, key.private, key.algorithm, headers)

    def key_set(self) -> bytes:
        """Return what verifies the tokens: a JSON Web Key Set."""
        return json.dumps({"keys": [key.public() for key in self.published()]}).encode()

    def rotate(self, now: bool = False) -> str:
        """Make a new key, which signs after a while; with `now` at once, and alone. Return its id.

        `now` is for a key that was stolen: what it signed is worth nothing from here on, where
        registries read `jwks.json`. They must hear of it before they take new tokens.
        """
        with self._changing():
            old = self._read()
            key = self._make_key()
            for stolen in old if now else ():
                _remove(stolen)
            self._publish()
        log.info("signing key %s is made", key.id)
        return key.id

    def tend(self) -> None:
        """Make a new key if it is time, and remove those that verify nothing any more."""
        with self._changing():
            keys = self._read() or [self._make_key()]  # somebody may have removed them all
            moment = time.time()
            # Those of another time were made while the clock was wrong, or it is now: they sign
            # nothing, and stay until it is right.
            ours = _valid(keys)
            if not ours or (self._interval and ours[-1].made + self._interval < moment):
                ours.append(self._make_key())
                log.info("signing key %s is made", ours[-1].id)
                keys = self._read()
            gone = [
                key
                for key, later in itertools.pairwise(ours)
                if later.made + ANNOUNCED + self._retired < moment
            ]
            for key in gone:
                _remove(key)
                log.info("signing key %s is removed", key.id)
            if gone or [key.path for key in keys] != [key.path for key in self._keys]:
                self._publish()

    def _publish(self) -> None:
        self._keys = self._read()
        text = json.dumps({"keys": [key.public() for key in self._keys]}).encode()
        _write(self._folder / KEY_SET, text, 0o644)

    def _read(self) -> list[SigningKey]:
        keys = []
        for path in sorted(self._folder.glob("signing-*.pem")):
            content = path.read_bytes()
            try:
                private = serialization.load_pem_private_key(content, None)
                certificate = x509.load_pem_x509_certificate(content)
                made = int(path.stem.split("-")[1]) / 1000
            except (ValueError, IndexError) as error:
                raise InvalidArgument(f"{path} is no signing key: {error}") from error
            if not isinstance(private, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
                raise InvalidArgument(f"{path} is a key of a kind that signs no token")
            keys.append(SigningKey(made, private, certificate, path))
        return keys

    def _make_root(self) -> None:
        key = _generate(self._algorithm)
        name = f"token service {os.urandom(4).hex()}"
        root = _certificate(key, name, key, name, ROOT_DAYS, authority=True)
        _write(self._folder / "root.key", _private(key), 0o600)
        _write(self._folder / ROOT, root.public_bytes(serialization.Encoding.PEM), 0o644)

    def _make_key(self) -> SigningKey:
        root = x509.load_pem_x509_certificate((self._folder / ROOT).read_bytes())
        signer = serialization.load_pem_private_key((self._folder / "root.key").read_bytes(), None)
        if not isinstance(signer, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
            raise InvalidArgument(f"{self._folder}/root.key is a key of a kind that signs nothing")
        key = _generate(self._algorithm)
        issuer = str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        leaf = _certificate(key, f"signing key of {issuer}", signer, issuer, KEY_DAYS)
        newest = max((key.made for key in _valid(self._read())), default=0.0)
        made = max(int(time.time() * 1000), round(newest * 1000) + 1)  # the order is that of names
        mark = key_ids(key.public_key())[1][:8].replace("-", "x")
        path = self._folder / f"signing-{made}-{mark}.pem"
        _write(path, _private(key) + leaf.public_bytes(serialization.Encoding.PEM), 0o600)
        return SigningKey(made / 1000, key, leaf, path)


def _valid(keys: Iterable[SigningKey]) -> list[SigningKey]:
    """Return the keys whose certificates are valid now."""
    now = datetime.fromtimestamp(time.time(), UTC)
    return [
        key
        for key in keys
        if key.certificate.not_valid_before_utc <= now <= key.certificate.not_valid_after_utc
    ]


def _remove(key: SigningKey) -> None:
    key.path.unlink(missing_ok=True)


def _generate(algorithm: str) -> PrivateKey:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _private(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate(
    key: PrivateKey, name: str, signer: PrivateKey, issuer: str, days: int, authority: bool = False
) -> x509.Certificate:
    now = datetime.fromtimestamp(time.time(), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is there whole or not at all, also after a power failure."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
