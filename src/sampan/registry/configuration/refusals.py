"""What a configuration may ask for and this version does not have: refused, never passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sampan.errors import InvalidArgument
from sampan.registry.configuration.nodes import Problem
from sampan.registry.expressions import expression

MIDDLEWARES = ("cloudfront", "redirect", "rewrite")
CLIENT_AUTH = ("require-and-verify-client-cert", "verify-client-cert-if-given")
# What the server speaks with TLS 1.2, all of it, by the names of Go; and with TLS 1.3.
SUITES = tuple(
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
)
SUITES_OF_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")


def refusals(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what we cannot do, and (as unknown) what has no effect here and harms nobody."""

    def section(*keys: str) -> Mapping[str, Any]:
        found: Any = document
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    for number, hook in enumerate(section("log").get("hooks") or []):
        if not hook.get("disabled") and hook.get("type") != "mail":
            yield Problem(f"log.hooks[{number}]", "this version knows hooks of the type mail only")
    for kind, listed in section("middleware").items():
        for number, item in enumerate(listed or []):
            known = MIDDLEWARES if kind == "storage" else ()
            if not item.get("disabled") and item.get("name") not in known:
                path = f"middleware.{kind}[{number}]"
                yield Problem(path, f"this version has no middleware {item.get('name')}")
    if section("compatibility", "schema1").get("enabled"):
        yield Problem("compatibility.schema1", "manifests of schema 1 are not accepted")
    if section("policy", "repository").get("classes"):
        yield Problem("policy.repository.classes", "this version knows no classes")
    yield from _tls(section("http", "tls"))
    for name in ("allow", "deny"):
        patterns = section("validation", "manifests", "urls").get(name) or []
        for number, pattern in enumerate(patterns):
            try:
                expression(str(pattern))
            except InvalidArgument as error:
                yield Problem(f"validation.manifests.urls.{name}[{number}]", str(error))
    algorithms = section("auth", "token").get("signingalgorithms") or []
    if told := [name for name in algorithms if str(name).startswith("HS")]:
        yield Problem(
            "auth.token.signingalgorithms",
            f"{', '.join(told)} verify nothing: the registry has public keys only",
            harmless=True,
        )


def _tls(tls: Mapping[str, Any]) -> Iterator[Problem]:
    given = tls.get("ciphersuites") or []
    if given and tls.get("minimumtls") != "tls1.3":  # whose suites nobody chooses
        missing = [name for name in SUITES if name not in given]
        if missing:
            yield Problem(
                "http.tls.ciphersuites", f"cannot leave out {', '.join(missing)}: all are spoken"
            )
        elif set(given) - {*SUITES, *SUITES_OF_13}:
            message = "only those with AEAD and ephemeral keys are spoken"
            yield Problem("http.tls.ciphersuites", message, harmless=True)
    kind = tls.get("clientauth")
    if kind and tls.get("clientcas"):
        if kind == "request-client-cert":
            message = "nobody is asked for a certificate, which would not be verified anyway"
            yield Problem("http.tls.clientauth", message, harmless=True)
        elif kind not in CLIENT_AUTH:
            yield Problem(
                "http.tls.clientauth", f"this version knows {' and '.join(CLIENT_AUTH)} only"
            )
    if tls.get("minimumtls") in ("tls1.0", "tls1.1"):
        yield Problem("http.tls.minimumtls", "the server speaks tls1.2 at least", harmless=True)
