"""What can go wrong below HTTP, in the words that Go's client has for it."""

from __future__ import annotations

import os
import socket
import ssl

import h11


class Fault(Exception):
    """An exchange that failed. `may_pass`: another attempt may succeed."""

    may_pass = False


class DialFault(Fault):
    """No connection came about."""


class CertificateFault(Fault):
    """The server is not the one it should be, or it does not take our certificate."""


class PlainTextFault(Fault):
    """The server does not speak TLS."""


class BrokenFault(Fault):
    """The connection ended before the answer did."""

    may_pass = True


class TimeoutFault(Fault):
    """The other side was silent for too long."""

    may_pass = True


class MalformedFault(Fault):
    """The answer is not HTTP, or is larger than it may be."""


class ForbiddenFault(Fault):
    """The host has only addresses that must not be asked."""


class RefusedProxyFault(Fault):
    """The proxy does not let us through."""


# Source: openssl/x509_vfy.h, X509_V_ERR_*; Go's crypto/x509 for the sentences
_DATES = frozenset({9, 10})
_NAMES = frozenset({62, 64})
_UNKNOWN = frozenset({2, 18, 19, 20, 21, 24})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


def words_of(error: OSError) -> str:
    """Return an error of the kernel as Go prints it: `connection refused`."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if error.errno is None:
        return str(error) or type(error).__name__
    return os.strerror(error.errno).lower()


def lookup_fault(host: str, error: OSError) -> DialFault:
    """Return what to say of a name that cannot be resolved."""
    code = error.errno if isinstance(error, socket.gaierror) else None
    if code in (socket.EAI_NONAME, socket.EAI_NODATA):
        return DialFault(f"dial tcp: lookup {host}: no such host")
    if code == socket.EAI_AGAIN:
        return DialFault(f"dial tcp: lookup {host}: Temporary failure in name resolution")
    return DialFault(f"dial tcp: lookup {host}: {error.strerror or error}")


def tls_fault(error: ssl.SSLError, host: str) -> Fault:
    """Return what to say of a handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateFault(f"tls: failed to verify certificate: {_x509(error, host)}")
    if error.reason in _NOT_TLS:
        return PlainTextFault("http: server gave HTTP response to HTTPS client")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return DialFault("EOF")
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in reason:
        return CertificateFault(f"remote error: tls: {reason.partition('alert ')[2] or reason}")
    return CertificateFault(f"tls: {reason}")


def _x509(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _UNKNOWN:
        return "x509: certificate signed by unknown authority"
    if error.verify_code in _DATES:
        return "x509: certificate has expired or is not yet valid"
    if error.verify_code in _NAMES:
        return f"x509: certificate is not valid for {host}"
    return f"x509: {error.verify_message}"


def exchange_fault(error: OSError, host: str) -> Fault:
    """Return what to say of a connection that failed after it had come about."""
    if isinstance(error, ssl.SSLError):
        fault = tls_fault(error, host)  # TLS 1.3 refuses our certificate only now
        return fault if "remote error" in str(fault) else BrokenFault(str(fault))
    if isinstance(error, TimeoutError):
        return TimeoutFault("i/o timeout")
    return BrokenFault(words_of(error))


def malformed(error: h11.RemoteProtocolError) -> Fault:
    """Return what to say of an answer that h11 refuses."""
    text = str(error)
    if "peer" in text and "closed" in text:
        return BrokenFault("unexpected EOF")
    if "too long" in text:
        return MalformedFault("net/http: server response headers exceeded the limit; aborted")
    return MalformedFault(f"net/http: HTTP/1.x transport connection broken: {text[:200]}")
