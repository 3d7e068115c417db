"""What a configuration may ask for and this version does not have: refused, never passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sampan.errors import InvalidArgument
from sampan.registry.configuration import ciphers
from sampan.registry.configuration.nodes import Problem
from sampan.registry.expressions import expression

WITHOUT_AUTH = (
    "there is no auth: whoever reaches this registry gets what its logins at upstreams can pull"
)
SCHEMA_1 = (
    "manifests of schema 1 are served if they are here, and neither taken nor made from others:"
    " Docker needs none since 1.10 (2016); leave this out, or set enabled: false"
)
MIDDLEWARES = ("cloudfront", "redirect", "rewrite")


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
    if section("storage", "swift").get("rootdirectory"):
        message = "has no effect, as in docker-registry, whose documentation has it: see prefix"
        yield Problem("storage.swift.rootdirectory", message, harmless=True)
    if section("compatibility", "schema1").get("enabled"):
        yield Problem("compatibility.schema1", SCHEMA_1)
    yield from _tls(section("http", "tls"))
    given = section("proxy")
    logins = [one for one in (given, *(given.get("upstreams") or [])) if _has_login(one)]
    if logins and not (document.get("auth") or section("http", "tls").get("clientcas")):
        yield Problem("proxy", WITHOUT_AUTH, harmless=True)
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


def _has_login(upstream: Mapping[str, Any]) -> bool:
    if not upstream.get("remoteurl"):
        return False
    return bool(upstream.get("username") or (upstream.get("exec") or {}).get("command"))


def _tls(tls: Mapping[str, Any]) -> Iterator[Problem]:
    if tls.get("clientauth") and not tls.get("clientcas"):
        message = "has no effect without clientcas: nobody is asked for a certificate"
        yield Problem("http.tls.clientauth", message, harmless=True)
    given = tls.get("ciphersuites") or []
    place = "http.tls.ciphersuites"
    if tls.get("minimumtls") == "tls1.3":
        if given:
            yield Problem(place, "nobody chooses those of tls1.3: it has no effect", harmless=True)
        return
    for name in given:
        if name not in ciphers.KNOWN:
            yield Problem(place, f"unknown TLS cipher suite '{name}'")
    if lost := [name for name in given if name in ciphers.LOST]:
        some = len(lost) < len(given)
        yield Problem(place, f"{', '.join(lost)}: nobody speaks RC4 and 3DES here", harmless=some)
    if tls.get("minimumtls") in ("tls1.0", "tls1.1") and not ciphers.are_of_old(
        ciphers.chosen(given)
    ):
        message = "has no effect without ciphersuites that are as old, such as"
        message += " TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
        yield Problem("http.tls.minimumtls", message, harmless=True)
