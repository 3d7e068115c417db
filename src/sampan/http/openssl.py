"""The server's side of TLS by pyOpenSSL: for what Python's own `ssl` cannot ask of clients.

`ssl` verifies every certificate that it has asked for. pyOpenSSL can also take one that nobody
verifies, tells clients the names of authorities, and takes keys that are in no file. An
`OpenSSLContext` stands wherever a `TLSContext` is wanted (`Server.listen`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from sampan.errors import InvalidArgument
from sampan.http.tls import TLS, Clients

T = TypeVar("T")
VERSIONS = {
    "tls1.0": SSL.TLS1_VERSION,
    "tls1.1": SSL.TLS1_1_VERSION,
    "tls1.2": SSL.TLS1_2_VERSION,
    "tls1.3": SSL.TLS1_3_VERSION,
}
HTTP11 = b"http/1.1"
MODERN = ("ECDHE+AESGCM", "ECDHE+CHACHA20")  # of TLS 1.2: what docker-registry speaks by itself
_OLD = ("tls1.0", "tls1.1")
_MOST = 128 << 10  # bytes that are taken from OpenSSL at once
_RELEASE_BUFFERS = 0x10  # openssl/ssl.h, SSL_MODE_RELEASE_BUFFERS: an idle client costs less


class OpenSSLContext:
    """Makes the server's side of connections, with HTTP/1.1 as the only protocol."""

    def __init__(self, tls: TLS) -> None:
        """Raises InvalidArgument if the parts of `tls` do not go together."""
        self._context = _context(tls)

    def renew(self, tls: TLS) -> None:
        """Meet new clients on other terms. Raises InvalidArgument, and then nothing changes."""
        self._context = _context(tls)

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = True
    ) -> Session:
        """Return one connection between two buffers, as ssl.SSLContext does."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return Session(connection, incoming, outgoing)


class Session:
    """One connection, with the calls and the errors of ssl.SSLObject."""

    def __init__(
        self, connection: SSL.Connection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing

    def do_handshake(self) -> None:
        self._do(self._connection.do_handshake)

    def read(self, size: int) -> bytes:
        return self._do(lambda: self._connection.recv(size))

    def write(self, data: bytes | memoryview) -> int:
        return self._do(lambda: self._connection.send(data))

    def unwrap(self) -> None:
        """Say that nothing more will come; SSLWantReadError if the peer has not said so yet."""
        if not self._do(self._connection.shutdown):
            raise ssl.SSLWantReadError

    def getpeercert(self, binary_form: bool = True) -> bytes | None:
        """Return the client's certificate (DER), whoever it is by."""
        found = self._connection.get_peer_certificate(as_cryptography=True)
        return found.public_bytes(serialization.Encoding.DER) if found else None

    def _do(self, call: Callable[[], T]) -> T:
        if self._incoming.pending:
            self._connection.bio_write(self._incoming.read())
        elif self._incoming.eof:
            self._connection.bio_shutdown()
        try:
            return call()
        except SSL.WantReadError:
            raise ssl.SSLWantReadError from None
        except SSL.ZeroReturnError:
            raise ssl.SSLZeroReturnError from None
        except SSL.SysCallError as error:
            raise ssl.SSLEOFError(str(error)) from None
        except SSL.Error as error:
            raise _failure(error) from None
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        try:
            while True:
                self._outgoing.write(self._connection.bio_read(_MOST))
        except SSL.WantReadError:
            pass  # that was all


def _failure(error: SSL.Error) -> ssl.SSLError:
    reasons = [str(item[-1]) for item in (error.args[0] if error.args else ())]
    if "unexpected eof while reading" in reasons:
        return ssl.SSLEOFError("the client went away without a word")
    return ssl.SSLError(", ".join(reasons) or "TLS failed")


def _context(tls: TLS) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(VERSIONS[tls.minimum])
    context.set_options(
        SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(_RELEASE_BUFFERS)
    # Clients keep tickets. OpenSSL's own memory of sessions would grow to 20,480 of them, with the
    # certificates of clients.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(HTTP11)  # without one, who resumes a session with a certificate fails
    context.set_alpn_select_callback(_choose)
    ciphers = list(tls.ciphers or MODERN)
    if tls.minimum in _OLD:  # their signatures are by SHA-1, which is below OpenSSL's level 1
        ciphers.append("@SECLEVEL=0")
    try:
        context.set_cipher_list(":".join(ciphers).encode())
        _identify(context, tls)
        if tls.clients is not Clients.NOBODY:
            _ask(context, tls)
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        reason = _failure(error).args[0] if isinstance(error, SSL.Error) else error
        raise InvalidArgument(f"TLS: {reason}") from error
    return context


def _identify(context: SSL.Context, tls: TLS) -> None:
    first, *others = x509.load_pem_x509_certificates(tls.chain)
    context.use_certificate(first)
    for other in others:
        context.add_extra_chain_cert(other)
    private = serialization.load_pem_private_key(tls.key, None)
    context.use_privatekey(private)  # type: ignore[arg-type] # of other kinds OpenSSL complains
    context.check_privatekey()


def _ask(context: SSL.Context, tls: TLS) -> None:
    store = context.get_cert_store()
    assert store, "a context has one"
    # As in Go: whatever is listed is trusted, also an authority that another one has signed.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    if tls.authorities:
        for authority in x509.load_pem_x509_certificates(tls.authorities):
            store.add_cert(crypto.X509.from_cryptography(authority))
            context.add_client_ca(authority)
    mode = SSL.VERIFY_PEER
    if tls.clients in (Clients.ANY, Clients.VERIFY):
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    anybody = tls.clients in (Clients.REQUEST, Clients.ANY)
    if anybody:  # OpenSSL goes through a chain all the same, and each key of it may be a slow one
        context.set_verify_depth(0)
    context.set_verify(mode, _take_any if anybody else None)


def _take_any(*_: object) -> bool:
    """Verify nothing. That the client has the key is proved by the handshake itself."""
    return True


def _choose(_: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """Choose what is spoken; to who speaks none of it an alert says so (RFC 7301, 3.2)."""
    if HTTP11 in offered:
        return HTTP11
    raise ssl.SSLError("the client speaks no HTTP/1.1")
