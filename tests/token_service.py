"""Our own token service as a process, with its commands, for registries under test.

with token_service(namespace) as service, registry(namespace, more=service.auth()) as hub:
    service.run("rule", "add", "users", "$user/**", "all")
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sampan.registryd.main import main
from tests.registries import OURS, OUTSIDE, Registry, registry
from tests.session import scratch
from tests.wire import Site

ISSUER, SERVICE, PATH = "our token service", "our registry", "/auth/token"


def section(folder: Path, **more: Any) -> dict[str, Any]:
    """Return a configuration's section `tokens`."""
    base = {"directory": str(folder / "tokens"), "issuer": ISSUER, "services": [SERVICE]}
    return {"tokens": {**base, **more}}


def trust(folder: Path, realm: str, key_set: bool = False) -> dict[str, Any]:
    """Return the section `auth` of a registry that takes its tokens: by certificates, or keys."""
    keys = folder / "tokens/keys"
    trusted = {"jwks": str(keys / "jwks.json")} if key_set else {
        "rootcertbundle": str(keys / "root.pem")
    }  # fmt: skip
    given = {"realm": realm, "service": SERVICE, "issuer": ISSUER, **trusted}
    return {"auth": {"token": given}}


@dataclass
class Service:
    """A running token service."""

    server: Registry

    @property
    def folder(self) -> Path:
        return self.server.folder

    @property
    def realm(self) -> str:
        return f"{self.server.url}{PATH}"

    def auth(self, key_set: bool = False) -> dict[str, Any]:
        return trust(self.folder, self.realm, key_set)

    def run(self, *words: str, stdin: str = "", status: int = 0) -> str:
        """Run one of the commands on accounts."""
        return administer(self.folder / "config.yml", *words, stdin=stdin, status=status)


def administer(config: Path, *words: str, stdin: str = "", status: int = 0) -> str:
    """Run a command of `sampan-registry` in this process, and return what it says."""
    out, given = io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            found = main([*words, "--config", str(config)])
    finally:
        sys.stdin = given
    assert found == status, out.getvalue()
    return out.getvalue()


def add_users(config: Path, users: Mapping[str, str]) -> None:
    """Make users with passwords."""
    for name, password in users.items():
        administer(config, "user", "add", name, "--password-stdin", stdin=password + "\n")


@contextlib.contextmanager
def token_service(namespace: str, users: Mapping[str, str], **more: Any) -> Iterator[Service]:
    """Run a token service without a registry; `more` are keys of its section."""
    folder = scratch()
    settings = {"version": "0.1", "http": {}, **section(folder, **more)}
    (folder / "config.yml").write_text(json.dumps(settings))
    server = Registry(Site(namespace), folder, program=OURS)
    try:
        server.start()
        add_users(folder / "config.yml", users)
        yield Service(server)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Grants:
    """Tokens of our own service for a test's own requests, in the place of a `TokenServer`."""

    site: Site
    users: Mapping[str, str]
    expired: int = 0
    given: dict[str, str] = field(default_factory=dict)  # by scopes; each costs a hash of bcrypt

    def token(self, user: str, scopes: list[str]) -> str:
        """Return a token with what the service grants of these scopes."""
        pair = base64.b64encode(f"{user}:{self.users[user]}".encode()).decode()
        query = urlencode([("service", SERVICE), *(("scope", scope) for scope in scopes)])
        if query not in self.given:
            login = {"Authorization": f"Basic {pair}"}
            reply = self.site.ask("GET", f"{PATH}?{query}", headers=login)
            self.given[query] = str(reply.json["token"])
        return self.given[query]


@contextlib.contextmanager
def registry_with_tokens(namespace: str, users: Mapping[str, str]) -> Iterator[Registry]:
    """Run a registry with TLS that is its own token service; users own what has their name."""
    folder = scratch()
    try:
        accounts = folder / "accounts.yml"
        more = section(folder)
        accounts.write_text(json.dumps({"version": "0.1", **more}))
        add_users(accounts, users)
        administer(accounts, "rule", "add", "users", "$user/**", "all")
        port = 5987  # the realm names it; the namespace is ours
        more |= trust(folder, f"https://{OUTSIDE}:{port}{PATH}")
        with registry(
            namespace, host=OUTSIDE, port=port, tls=True, program=OURS, more=more
        ) as found:
            found.tokens = Grants(found.site, users)  # type: ignore[assignment]
            yield found
    finally:
        shutil.rmtree(folder)
