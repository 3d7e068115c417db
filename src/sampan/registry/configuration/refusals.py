"""What a configuration may ask for and this version does not have: refused, never passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sampan.registry.configuration.nodes import Problem

MIDDLEWARES = ("cloudfront", "redirect", "rewrite")
CLIENT_AUTH = "require-and-verify-client-cert"


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
    for kind, key in (("bugsnag", "apikey"), ("newrelic", "licensekey")):
        if section("reporting", kind).get(key):
            yield Problem(
                f"reporting.{kind}",
                f"nothing is sent to {kind}: errors are in the log, and log.hooks mails them",
            )
    if section("compatibility", "schema1").get("enabled"):
        yield Problem("compatibility.schema1", "manifests of schema 1 are not accepted")
    if section("policy", "repository").get("classes"):
        yield Problem("policy.repository.classes", "this version knows no classes")
    yield from _tls(section("http", "tls"))
    for name in ("allow", "deny"):
        patterns = section("validation", "manifests", "urls").get(name) or []
        for number, pattern in enumerate(patterns):
            try:
                re.compile(pattern)
            except re.error as error:
                path = f"validation.manifests.urls.{name}[{number}]"
                yield Problem(path, f"is no regular expression: {error}")
    if document.get("redis"):
        yield Problem("redis", "is not used: this registry needs no cache", unknown=True)


def _tls(tls: Mapping[str, Any]) -> Iterator[Problem]:
    if tls.get("ciphersuites"):
        yield Problem(
            "http.tls.ciphersuites", "cannot be chosen: all that the server speaks are AEAD suites"
        )
    if tls.get("clientauth") and tls["clientauth"] != CLIENT_AUTH and tls.get("clientcas"):
        yield Problem("http.tls.clientauth", f"this version knows {CLIENT_AUTH} only")
    if tls.get("minimumtls") in ("tls1.0", "tls1.1"):
        yield Problem("http.tls.minimumtls", "the server speaks tls1.2 at least", unknown=True)
