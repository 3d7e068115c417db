"""A registry's configuration file: read, overridden by the environment, checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sampan.errors import InvalidArgument
from sampan.registry.configuration import redis, schema, spelling
from sampan.registry.configuration.environment import override
from sampan.registry.configuration.nodes import Problem
from sampan.registry.configuration.refusals import refusals

VERSION = "0.1"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9-]{1,63}")
LIMIT = 1 << 20  # bytes of a configuration


@dataclass(frozen=True)
class Checked:
    """A document with all that is wrong with it."""

    document: Mapping[str, Any]
    problems: tuple[Problem, ...]

    def get(self, path: str, default: Any = None) -> Any:
        """Return what stands at a path; the default if nothing does."""
        return look_up(self.document, path, default)


def look_up(document: Any, path: str, default: Any = None) -> Any:
    """Return what stands at a path of a document; the default if nothing does."""
    for key in path.split("."):
        if isinstance(document, str):  # `storage: inmemory`
            document = {document: {}}
        if not isinstance(document, Mapping) or document.get(key) is None:
            return default
        document = document[key]
    return document


def load(path: Path, environment: Mapping[str, str]) -> Checked:
    """Read a configuration; raise InvalidArgument if the file cannot be read as one."""
    try:
        with path.open("rb") as file:
            text = file.read(LIMIT + 1)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error
    if len(text) > LIMIT:
        raise InvalidArgument(f"{path} is too large for a configuration")
    return check(text, environment, str(path))


def check(text: bytes, environment: Mapping[str, str], name: str = "configuration") -> Checked:
    """Parse and check a configuration."""
    try:
        document = spelling.parse(text, schema.ROOT)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidArgument(f"{name} is no YAML: {error}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise InvalidArgument(f"{name}: must be a map of sections")
    problems = [*override(document, environment)]
    problems += schema.ROOT.problems(document, "")
    problems += _relations(document)
    if not any(problem.stops for problem in problems):
        problems += refusals(document)
    return Checked(document, tuple(problems))


def _relations(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what no key alone shows."""
    version = document.get("version")
    if version is not None and str(version) != VERSION:
        yield Problem("version", f'unsupported version: "{version}"')
    drivers = _chosen(document.get("storage"), schema.DRIVERS)
    if not drivers and not document.get("tokens"):  # a token service alone needs none
        yield Problem("storage", "no storage configuration provided")
    elif len(drivers) > 1:
        yield Problem(
            "storage",
            f"must provide exactly one storage type. Provided: [{' '.join(drivers)}]",
        )
    kinds = _chosen(document.get("auth"), tuple(schema.AUTH.keys))
    if len(kinds) > 1:
        yield Problem("auth", f"must provide exactly one type. Provided: [{' '.join(kinds)}]")
    if look_up(document, "auth.token") is not None:
        yield from _token(document)
    yield from redis.problems(document)
    if look_up(document, "metadata.postgresql") and "inmemory" in drivers:
        yield Problem("metadata.postgresql", "a registry in memory has nothing to share")
    path = look_up(document, "tokens.path", "/auth/token")
    if not (str(path).startswith("/") and len(str(path)) > 1) or str(path).endswith("/"):
        yield Problem("tokens.path", "must begin with a slash and not end with one")
    tls = look_up(document, "http.tls", {})
    if isinstance(tls, dict):
        if bool(tls.get("certificate")) != bool(tls.get("key")):
            yield Problem("http.tls", "certificate and key go together")
        ordered = look_up(tls, "letsencrypt.hosts")
        if tls.get("clientcas") and not (tls.get("certificate") or ordered):
            yield Problem("http.tls.clientcas", "needs a certificate of the server")
        yield from _letsencrypt(document, tls.get("letsencrypt"))
    prefix = look_up(document, "http.prefix", "")
    if prefix and not (str(prefix).startswith("/") and str(prefix).endswith("/")):
        yield Problem("http.prefix", "must begin and end with a slash")
    purging = look_up(document, "storage.maintenance.uploadpurging")
    if isinstance(purging, dict) and purging.get("enabled") is not False:
        for key in ("age", "interval", "dryrun"):
            if key not in purging:
                yield Problem(f"storage.maintenance.uploadpurging.{key}", "is required")


def _letsencrypt(document: Mapping[str, Any], given: Any) -> Iterator[Problem]:
    if not isinstance(given, dict) or not any(given.values()):
        return
    place = "http.tls.letsencrypt"
    if look_up(document, "http.tls.certificate"):
        yield Problem(place, "cannot go with a certificate")
    for key in ("cachefile", "hosts"):
        if not given.get(key):
            yield Problem(f"{place}.{key}", "is required")
    if look_up(document, "http.net") == "unix":
        yield Problem(place, "needs a socket of TCP, where the ACME server can come to")
    hosts = given.get("hosts")
    for number, host in enumerate(hosts if isinstance(hosts, list) else []):
        if not _HOST.fullmatch(str(host)):
            yield Problem(f"{place}.hosts[{number}]", f"{str(host)!r} is no name of a host")


def _token(document: Mapping[str, Any]) -> Iterator[Problem]:
    if not (look_up(document, "auth.token.rootcertbundle") or look_up(document, "auth.token.jwks")):
        yield Problem("auth.token", "needs rootcertbundle or jwks")
    if not (look_up(document, "auth.token.realm") or look_up(document, "auth.token.autoredirect")):
        yield Problem("auth.token.realm", "is required")


def _chosen(value: Any, kinds: tuple[str, ...]) -> list[str]:
    if isinstance(value, str):
        return [value]
    return sorted(key for key in value if key in kinds) if isinstance(value, dict) else []
