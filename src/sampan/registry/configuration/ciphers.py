"""Cipher suites: Go's names, which configurations have, and those of OpenSSL.

Source: distribution registry/registry.go at v2.8.3 and v3.1.1, `cipherSuites`; openssl-ciphers(1).
"""

from __future__ import annotations

from collections.abc import Iterable

_RSA = {
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
}
# In the order in which the server wants them: forward secrecy first, then what authenticates best.
_MODERN = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for go, openssl in (
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
    )
    for key in ("ECDSA", "RSA")
}
_CBC = {
    f"TLS_ECDHE_{key}_WITH_AES_{go}": f"ECDHE-{key}-AES{openssl}"
    for go, openssl in (
        ("128_CBC_SHA256", "128-SHA256"),
        ("256_CBC_SHA", "256-SHA"),
        ("128_CBC_SHA", "128-SHA"),
    )
    for key in ("ECDSA", "RSA")
}
OPENSSL = {**_MODERN, **_CBC, **_RSA}
OF_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
LOST = (  # to OpenSSL: nobody should speak RC4 and 3DES any more
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
)
KNOWN = frozenset((*OPENSSL, *OF_13, *LOST))


def chosen(listed: Iterable[str]) -> tuple[str, ...]:
    """Return OpenSSL's names of the suites of TLS 1.2 and before that are listed, and spoken."""
    wanted = set(listed)
    return tuple(name for go, name in OPENSSL.items() if go in wanted)


def is_usual(listed: Iterable[str]) -> bool:
    """Tell whether of TLS 1.2 and before just those are listed that are spoken without a list."""
    return set(chosen(listed)) == set(_MODERN.values())


def are_of_old(ciphers: Iterable[str]) -> bool:
    """Tell whether among OpenSSL's names are some that TLS 1.0 and 1.1 have, too."""
    return any(name.endswith("-SHA") for name in ciphers)
