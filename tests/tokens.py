"""A token server for registries under test: signed tokens by GET and POST, refresh tokens, lies.

Source: docker/distribution docs/spec/auth (token.md, oauth.md, scope.md, jwt.md).
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.wire import Server, Site, serving

SERVICE, ISSUER = "registry under test", "token server under test"
EVERYTHING = frozenset({"pull", "push", "delete", "*"})
Rule = Callable[[str, str, str], frozenset[str]]


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Signer:
    """A key with a certificate that the registry trusts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def bundle(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a JWT."""
        chain = [base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()]
        head = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        text = ".".join(_b64(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signature)
        return f"{text}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@dataclass
class TokenRequest:
    """What a client asked of the token server."""

    method: str
    grant: str  # "basic", "anonymous", "password" or "refresh_token"
    user: str
    service: str
    scopes: list[str]
    client_id: str
    offline: bool


def everything_for_users(user: str, kind: str, name: str) -> frozenset[str]:
    """Grant users all; strangers may pull what lies below `public/`."""
    if user:
        return EVERYTHING
    return frozenset({"pull"}) if name.startswith("public/") else frozenset()


@dataclass
class TokenServer:
    """A running token server. Change its fields to make it strict, odd or dishonest."""

    site: Site
    users: dict[str, str]
    rule: Rule = everything_for_users
    lifetime: int = 300  # seconds, as the answer says
    expired: int = 0  # this many of the next tokens are out of date already
    posts: bool = True  # else POST is 404, as at old servers
    fields: tuple[str, ...] = ("token", "access_token")
    fail: int = 0  # if set, every answer has this status
    signer: Signer = field(default_factory=Signer)
    requests: list[TokenRequest] = field(default_factory=list)
    refresh_tokens: dict[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        return f"{self.site.url}/token"

    def write_bundle(self, folder: Path) -> Path:
        """Write the certificate that the registry must trust."""
        path = folder / "tokens.pem"
        path.write_bytes(self.signer.bundle)
        return path

    def token(self, user: str, scopes: list[str]) -> str:
        """Return a token with what the rule grants of these scopes."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = set(actions.split(",")) & self.rule(user, kind, name)
            access.append({"type": kind, "name": name, "actions": sorted(granted)})
        expiry = time.time() + self.lifetime
        if self.expired:
            self.expired -= 1
            expiry = time.time() - 3600
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "access": access, "exp": int(expiry),
            "nbf": int(expiry) - 86400, "iat": int(expiry) - 86400, "jti": secrets.token_hex(8),
        }  # fmt: skip
        return self.signer.sign(claims)

    def answer(self, asked: TokenRequest) -> dict[str, Any]:
        """Return the body of an answer to a client whose identity has been checked."""
        token = self.token(asked.user, asked.scopes)
        body: dict[str, Any] = dict.fromkeys(self.fields, token)
        body["expires_in"] = self.lifetime
        body["issued_at"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if asked.grant == "refresh_token":
            body["scope"] = " ".join(asked.scopes)
        elif asked.offline and asked.user and self.posts:
            refresh = secrets.token_urlsafe(16)
            self.refresh_tokens[refresh] = asked.user
            body["refresh_token"] = refresh
        return body

    def identity(self, grant: str, user: str, password: str) -> str | None:
        """Return who asks ("" is nobody in particular), or None if that is not true."""
        if grant == "anonymous":
            return ""
        if grant == "refresh_token":
            return self.refresh_tokens.get(password)
        return user if self.users.get(user) == password and user else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        scopes = [part for scope in query.get("scope", []) for part in scope.split()]
        grant, user, password = "anonymous", "", ""
        given = self.headers.get("Authorization", "")
        if given.startswith("Basic "):
            user, _, password = base64.b64decode(given[6:]).decode().partition(":")
            grant = "basic"
        self._grant(query, grant, user, password, scopes)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        form = parse_qs(self.rfile.read(length).decode())
        if not self.tokens.posts:
            self._send(404, {})
            return
        grant = form.get("grant_type", [""])[0]
        user = form.get("username", [""])[0]
        password = form.get("password" if grant == "password" else "refresh_token", [""])[0]
        self._grant(form, grant, user, password, form.get("scope", [""])[0].split())

    def _grant(
        self, form: dict[str, list[str]], grant: str, user: str, password: str, scopes: list[str]
    ) -> None:
        who = self.tokens.identity(grant, user, password)
        offline = "true" in form.get("offline_token", []) or "offline" in form.get(
            "access_type", []
        )
        asked = TokenRequest(
            self.command,
            grant,
            who or user,
            form.get("service", [""])[0],
            scopes,
            form.get("client_id", [""])[0],
            offline,
        )
        self.tokens.requests.append(asked)
        if self.tokens.fail:
            self._send(self.tokens.fail, {"errors": [{"code": "UNKNOWN", "message": "no"}]})
        elif who is None:
            wrong = {"code": "UNAUTHORIZED", "message": "incorrect username or password"}
            self._send(401, {"errors": [wrong], "details": wrong["message"]})
        else:
            self._send(200, self.tokens.answer(asked))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """The requests are in the server's list."""


@contextlib.contextmanager
def token_server(
    namespace: str = "", users: dict[str, str] | None = None, *, host: str = "127.0.0.1"
) -> Iterator[TokenServer]:
    """Run a token server in a network namespace; "" is the host's."""
    tokens = TokenServer(Site(namespace, host), users or {"captain": "secret"})
    handler = type("Handler", (_Handler,), {"tokens": tokens})
    with serving(Server(tokens.site, handler)):
        yield tokens
