"""An ACME server for tests (RFC 8555, RFC 8737): it really looks for the proofs that it asks for.

with acme_server(namespace, looks_at=("127.0.0.1", 5443)) as acme:
    settings = {"directoryurl": acme.directory}
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.wire import Server, Site, serving, within

IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Order:
    hosts: list[str]
    account: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    status: str = "pending"
    error: str = ""
    valid: set[str] = field(default_factory=set)
    chain: bytes = b""


class Authority:
    """Signs certificates."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test ACME")])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, hosts: list[str], key: Any, age: float, life: float) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(seconds=age))
            .not_valid_after(now + datetime.timedelta(seconds=life))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=True
            )
            .sign(self.key, hashes.SHA256())
        )
        return leaf.public_bytes(serialization.Encoding.PEM) + self.pem


@dataclass
class AcmeServer:
    """A running server. `age` and `life` are seconds of certificates, before and from now."""

    site: Site
    looks_at: tuple[str, int]
    authority: Authority = field(default_factory=Authority)
    age: float = 3600.0
    life: float = 90 * 86400.0
    refuse: str = ""  # why no proof is good enough
    refuse_after: int = -1  # after so many certificates, no proof is good enough
    accounts: dict[str, dict[str, str]] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)
    looks: list[str] = field(default_factory=list)  # hosts whose proofs were looked for
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def directory(self) -> str:
        return f"{self.site.url}/directory"

    def look(self, host: str, token: str, account: str) -> str:
        """Look for a proof; return what is wrong with it."""
        self.looks.append(host)
        if self.refuse:
            return self.refuse
        jwk = self.accounts[account]
        canonical = json.dumps({k: jwk[k] for k in ("crv", "kty", "x", "y")}, separators=(",", ":"))
        wanted = f"{token}.{_b64(hashlib.sha256(canonical.encode()).digest())}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        try:
            with within(self.site.namespace):
                sock = socket.create_connection(self.looks_at, 5.0)
            with sock, context.wrap_socket(sock, server_hostname=host) as tls:
                if tls.selected_alpn_protocol() != "acme-tls/1":
                    return "another protocol was chosen"
                shown = x509.load_der_x509_certificate(tls.getpeercert(True) or b"")
        except OSError as error:
            return str(error)
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        proof = shown.extensions.get_extension_for_oid(IDENTIFIER)
        digest = b"\x04\x20" + hashlib.sha256(wanted.encode()).digest()
        good = proof.critical and proof.value.value == digest  # type: ignore[attr-defined]
        return "" if good and names.get_values_for_type(x509.DNSName) == [host] else "wrong proof"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    acme: AcmeServer

    def do_HEAD(self) -> None:
        self._send(200, {})

    def do_GET(self) -> None:
        url = self.acme.site.url
        names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
        self._send(200, {name: f"{url}/{name}" for name in names})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        protected = json.loads(_unb64(body["protected"]))
        text = _unb64(body["payload"])
        payload = json.loads(text) if text else {}
        with self.acme.lock:
            fresh = protected["nonce"] in self.acme.nonces
            self.acme.nonces.discard(protected["nonce"])
        if not fresh:
            self._problem(400, "badNonce", "used before")
            return
        account = protected.get("kid", "")
        jwk = protected.get("jwk") or self.acme.accounts[account]
        _verify(jwk, f"{body['protected']}.{body['payload']}", _unb64(body["signature"]))
        _, name, *rest = self.path.split("/")
        getattr(self, f"_{name}")(payload, account or jwk, *rest)

    def _newAccount(self, payload: Any, jwk: dict[str, str]) -> None:  # noqa: N802
        url = self.acme.site.url
        for address, known in self.acme.accounts.items():
            if known == jwk:
                self._send(200, {"status": "valid"}, Location=address)
                return
        address = f"{url}/account/{len(self.acme.accounts) + 1}"
        self.acme.accounts[address] = jwk
        self._send(
            201, {"status": "valid", "contact": payload.get("contact", [])}, Location=address
        )

    def _newOrder(self, payload: Any, account: str) -> None:  # noqa: N802
        order = Order([one["value"] for one in payload["identifiers"]], account)
        self.acme.orders.append(order)
        number = len(self.acme.orders) - 1
        self._send(201, self._shown(number), Location=f"{self.acme.site.url}/order/{number}")

    def _shown(self, number: int) -> dict[str, Any]:
        order, url = self.acme.orders[number], self.acme.site.url
        if order.status == "pending" and order.valid == set(order.hosts):
            order.status = "ready"
        shown: dict[str, Any] = {
            "status": order.status,
            "identifiers": [{"type": "dns", "value": host} for host in order.hosts],
            "authorizations": [f"{url}/authz/{number}/{host}" for host in order.hosts],
            "finalize": f"{url}/finalize/{number}",
        }
        if order.chain:
            shown["certificate"] = f"{url}/certificate/{number}"
        return shown

    def _order(self, payload: Any, account: str, number: str) -> None:
        self._send(200, self._shown(int(number)))

    def _authz(self, payload: Any, account: str, number: str, host: str) -> None:
        order = self.acme.orders[int(number)]
        status = "valid" if host in order.valid else "invalid" if order.error else "pending"
        body = {"identifier": {"type": "dns", "value": host}, "status": status}
        self._send(200, {**body, "challenges": [self._told(number, host, status)]})

    def _told(self, number: str, host: str, status: str) -> dict[str, Any]:
        order = self.acme.orders[int(number)]
        told: dict[str, Any] = {
            "type": "tls-alpn-01",
            "url": f"{self.acme.site.url}/challenge/{number}/{host}",
            "token": order.token,
            "status": status,
        }
        if order.error:
            told["error"] = {"type": "urn:ietf:params:acme:error:tls", "detail": order.error}
        return told

    def _challenge(self, payload: Any, account: str, number: str, host: str) -> None:
        order = self.acme.orders[int(number)]
        order.error = self.acme.look(host, order.token, account)
        if order.error:
            order.status = "invalid"
        else:
            order.valid.add(host)
        link = f'<{self.acme.site.url}/authz/{number}/{host}>;rel="up"'
        self._send(200, self._told(number, host, "invalid" if order.error else "valid"), Link=link)

    def _finalize(self, payload: Any, account: str, number: str) -> None:
        order = self.acme.orders[int(number)]
        request = x509.load_der_x509_csr(_unb64(payload["csr"]))
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert sorted(names.get_values_for_type(x509.DNSName)) == sorted(order.hosts)
        assert order.valid == set(order.hosts)
        key = request.public_key()
        order.chain = self.acme.authority.sign(order.hosts, key, self.acme.age, self.acme.life)
        order.status = "valid"
        if sum(1 for one in self.acme.orders if one.chain) == self.acme.refuse_after:
            self.acme.refuse = "that is enough"
        self._send(200, self._shown(int(number)))

    def _certificate(self, payload: Any, account: str, number: str) -> None:
        chain = self.acme.orders[int(number)].chain
        self._raw(200, chain, "application/pem-certificate-chain")

    def _problem(self, status: int, kind: str, detail: str) -> None:
        body = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}
        self._raw(status, json.dumps(body).encode(), "application/problem+json")

    def _send(self, status: int, body: Any, **headers: str) -> None:
        self._raw(status, json.dumps(body).encode(), "application/json", **headers)

    def _raw(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        nonce = secrets.token_urlsafe(12)
        self.acme.nonces.add(nonce)
        self.send_response(status)
        for name, value in {"Replay-Nonce": nonce, "Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """What was asked for is in the server's lists."""


def _verify(jwk: dict[str, str], signed: str, signature: bytes) -> None:
    numbers = [int.from_bytes(_unb64(jwk[part]), "big") for part in ("x", "y")]
    key = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
    halves = [int.from_bytes(half, "big") for half in (signature[:32], signature[32:])]
    key.verify(encode_dss_signature(*halves), signed.encode(), ec.ECDSA(hashes.SHA256()))


@contextlib.contextmanager
def acme_server(
    namespace: str = "", *, looks_at: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[AcmeServer]:
    """Run one in a network namespace; "" is the host's."""
    acme = AcmeServer(Site(namespace), looks_at)
    handler = type("Handler", (_Handler,), {"acme": acme})
    with serving(Server(acme.site, handler)):
        yield acme
