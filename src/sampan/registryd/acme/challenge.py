"""The certificate that proves to an ACME server that we answer for a host (RFC 8737)."""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PROTOCOL = "acme-tls/1"
IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier
_OCTET_STRING = b"\x04\x20"  # DER, of 32 bytes


def proof(host: str, authorization: str) -> ssl.SSLContext:
    """Return how to answer a server that looks for a key authorization at a host."""
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(authorization.encode()).digest()
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "challenge")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(IDENTIFIER, _OCTET_STRING + digest), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([PROTOCOL])
    pem = private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)
    memory = os.memfd_create("sampan-registry-acme", os.MFD_CLOEXEC)
    with open(memory, "wb", buffering=0) as file:
        file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    return context


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as autocert of Go writes it, too: `EC PRIVATE KEY`."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
