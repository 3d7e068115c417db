"""Auth `token`: bearer tokens (JWT) that a token server signed, checked with its keys.

Source: distribution docs/spec/auth/jwt.md, registry/auth/token/token.go; RFC 7519, RFC 7638.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.requests import Request

from sampan.errors import InvalidArgument
from sampan.registry.auth.access import Grant, Scope
from sampan.registry.content.classes import IMAGE
from sampan.registry.errors import RegistryError

log = logging.getLogger(__name__)
LEEWAY = 60  # seconds that clocks may differ
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"),
)
SYMMETRIC = ("HS256", "HS384", "HS512")  # may be listed; no key of ours verifies them
CHAIN_LIMIT = 8  # certificates in a token
TOKEN_LIMIT = 64 << 10
MEMBER_LIMIT = 2800  # letters of a number in a key: RSA of 16384 bits, the most that OpenSSL takes
_UNREADABLE = (  # what anybody can make a certificate or a key raise that is none
    *(ValueError, TypeError, KeyError, InvalidSignature, UnsupportedAlgorithm, jwt.PyJWTError),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class _Granted(msgspec.Struct):
    type: str
    name: str
    actions: list[str] | None = None
    kind: str | None = msgspec.field(default=None, name="class")


@dataclass(frozen=True)
class TokenGrant:
    """What a token grants."""

    user: str
    access: Sequence[_Granted]

    def allows(self, scope: Scope) -> bool:
        """Tell whether all of a scope is granted."""
        actions = {
            action
            for item in self.access
            if (item.type.partition("(")[0], item.name) == (scope.type, scope.name)
            for action in item.actions or []
        }
        return "*" in actions or actions.issuperset(scope.actions)

    def classes(self, repository: str) -> Collection[str]:
        """Return which classes of a repository are granted; what tells none is an image."""
        return {
            item.kind or item.type.partition("(")[2].rstrip(")") or IMAGE
            for item in self.access
            if item.name == repository
        }


@dataclass(frozen=True)
class Trusted:
    """The keys of a token server: by every id that a token may call them, and certificates."""

    keys: Mapping[str, PublicKey]
    roots: Sequence[x509.Certificate]

    @classmethod
    def read(cls, bundle: str, key_set: str) -> Trusted:
        """Read certificates (PEM) and a JSON Web Key Set; raise InvalidArgument without any key."""
        keys: dict[str, PublicKey] = {}
        roots: list[x509.Certificate] = []
        try:
            if bundle:
                roots = x509.load_pem_x509_certificates(Path(bundle).read_bytes())
            for root in roots:
                key = _usable(root.public_key())
                keys |= dict.fromkeys(key_ids(key), key)
            if key_set:
                for item in jwt.PyJWKSet.from_json(Path(key_set).read_text()).keys:
                    key = _usable(item.key)
                    keys |= dict.fromkeys(key_ids(key), key)
                    if item.key_id:
                        keys[item.key_id] = key
        except (OSError, ValueError, KeyError, jwt.PyJWTError) as error:
            raise InvalidArgument(f"keys of the token server: {error}") from error
        if not keys:
            raise InvalidArgument("the token server has no key")
        return cls(keys, roots)

    def key(self, header: Mapping[str, Any]) -> PublicKey | None:
        """Return the trusted key that a token says it was signed with."""
        chain, key = header.get("x5c"), header.get("jwk")
        try:
            if isinstance(chain, list) and chain and self.roots:
                found = self._chain([str(item) for item in chain])
                return found or self.keys.get(str(header.get("kid", "")))
            if isinstance(key, dict):
                return self.keys.get(thumbprint(_told(key)))
        except _UNREADABLE:
            return None
        return self.keys.get(str(header.get("kid", "")))

    def _chain(self, encoded: Sequence[str]) -> PublicKey | None:
        """Return the key of the first certificate, if the chain leads to one of ours."""
        if len(encoded) > CHAIN_LIMIT:
            return None
        chain = [
            x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
            for text in encoded
        ]
        if not all(map(_is_current, chain)):
            return None
        for lower, upper in itertools.pairwise(chain):
            if not _is_authority(upper):
                return None
            lower.verify_directly_issued_by(upper)
        last = chain[-1]
        if last in self.roots or any(_issued(last, root) for root in self.roots):
            return _usable(chain[0].public_key())
        return None


class Keys(Protocol):
    """Something that knows the keys of a token server."""

    def key(self, header: Mapping[str, Any]) -> PublicKey | None:
        """Return the trusted key that a token says it was signed with."""


class TrustedFiles:
    """Keys in files that are read anew when they change: token servers renew their keys."""

    def __init__(self, bundle: str, key_set: str) -> None:
        self._paths = (bundle, key_set)
        self._stamp = self._look()
        self._trusted = Trusted.read(bundle, key_set)

    def _look(self) -> list[tuple[int, int]]:
        found = [os.stat(path) for path in self._paths if path and os.path.exists(path)]
        return [(stat.st_mtime_ns, stat.st_ino) for stat in found]

    def key(self, header: Mapping[str, Any]) -> PublicKey | None:
        """Return the trusted key that a token says it was signed with."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._trusted = Trusted.read(*self._paths)
            except InvalidArgument as error:
                log.error("%s: they are not read anew", error)
            else:
                log.info("the keys of the token server were read anew")
        return self._trusted.key(header)


def _is_current(certificate: x509.Certificate) -> bool:
    now = datetime.now(UTC)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    if not (_is_authority(root) and _is_current(root)):
        return False
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _told(key: Mapping[str, Any]) -> PublicKey:
    """Return the public key in a header that anybody may have written.

    Its private members are left out: to find the primes of a made-up `d` would take hours. So
    would arithmetic with numbers that have no end.
    """
    members = {name: key[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in key}
    if any(not isinstance(text, str) or len(text) > MEMBER_LIMIT for text in members.values()):
        raise ValueError("no key has such members")
    return _usable(jwt.PyJWK.from_dict(members).key)


def _usable(key: object) -> PublicKey:
    if isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        return key
    raise ValueError("a key of this kind verifies no token")


def key_ids(key: PublicKey) -> tuple[str, str]:
    """Return what 2.x (libtrust) and 3.x (RFC 7638) call a key."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode().rstrip("=")
    libtrust = ":".join(text[n : n + 4] for n in range(0, len(text), 4))
    return libtrust, thumbprint(key)


def thumbprint(key: PublicKey) -> str:
    """Return the RFC 7638 thumbprint of a key."""
    members: tuple[str, ...]
    if isinstance(key, rsa.RSAPublicKey):
        members, algorithm = ("e", "kty", "n"), jwt.algorithms.RSAAlgorithm.to_jwk(key)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        members, algorithm = ("crv", "kty", "x", "y"), jwt.algorithms.ECAlgorithm.to_jwk(key)
    else:
        members, algorithm = ("crv", "kty", "x"), jwt.algorithms.OKPAlgorithm.to_jwk(key)
    all_members = msgspec.json.decode(algorithm)
    text = msgspec.json.encode({name: all_members[name] for name in members})
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")


def verifiable(listed: Sequence[str]) -> list[str]:
    """Return which of the listed algorithms can be verified; without a list, all that we know.

    Raises InvalidArgument for what is none.
    """
    unknown = set(listed) - {*ALGORITHMS, *SYMMETRIC}
    if unknown:
        raise InvalidArgument(f"signing algorithms {', '.join(sorted(unknown))} are not taken")
    return [name for name in listed or ALGORITHMS if name not in SYMMETRIC]


class Token:
    """Checks bearer tokens. Some hundred microseconds: less than a thread costs."""

    def __init__(
        self,
        realm: str,
        service: str,
        issuer: str,
        trusted: Keys,
        algorithms: Sequence[str] = (),
        redirect_path: str = "",
    ) -> None:
        """`redirect_path` makes the realm: that path on the host that the client asked for."""
        self._realm = realm
        self._service = service
        self._issuer = issuer
        self._trusted = trusted
        self._algorithms = verifiable(algorithms)
        self._redirect_path = redirect_path

    def blocks(self, request: Request) -> bool:
        return False

    def authorize(self, request: Request, wanted: Sequence[Scope], needed: Scope | None) -> Grant:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text.strip():
            raise self._challenge(request, wanted, "")
        grant = self._verify(text.strip())
        if grant is None:
            raise self._challenge(request, wanted, "invalid_token")
        if needed and not grant.allows(needed):
            raise self._challenge(request, wanted, "insufficient_scope")
        return grant

    def _verify(self, text: str) -> TokenGrant | None:
        if len(text) > TOKEN_LIMIT:
            return None
        try:
            key = self._trusted.key(jwt.get_unverified_header(text))
            if key is None:
                return None
            claims = jwt.decode(
                text,
                key,
                algorithms=self._algorithms,
                audience=self._service,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"], "verify_iat": False},
            )
            access = msgspec.convert(claims.get("access") or [], list[_Granted])
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError):
            return None
        return TokenGrant(str(claims.get("sub", "")), access)

    def _challenge(self, request: Request, wanted: Sequence[Scope], error: str) -> RegistryError:
        realm = self._realm
        if self._redirect_path:
            scheme = request.headers.get("x-forwarded-proto", "https")
            realm = f"{scheme}://{request.headers.get('host', 'localhost')}{self._redirect_path}"
        parts = [f'realm="{realm}"', f'service="{self._service}"']
        if wanted:
            parts.append(f'scope="{" ".join(map(str, wanted))}"')
        if error:
            parts.append(f'error="{error}"')
        headers = {"WWW-Authenticate": "Bearer " + ",".join(parts)}
        return RegistryError("UNAUTHORIZED", headers=headers)
