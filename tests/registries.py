"""Real registries for tests: Debian's docker-registry, plain, with TLS, users, tokens, as a mirror.

    with running() as daemon, registry(daemon.namespace) as hub:
        push(hub, "library/busybox", "latest", busybox())
        daemon.request("POST", f"/images/create?fromImage={hub.address}/library/busybox&tag=latest")

A daemon under test lives in a network namespace of its own: give the registry the same one. There,
127.0.0.1 counts as insecure; `OUTSIDE` does not, so that is where TLS is really checked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme

from tests.daemon import REGISTRY
from tests.session import PATIENCE, eventually, scratch
from tests.tokens import ISSUER, SERVICE, TokenServer
from tests.wire import LOOPBACK, Reply, Site, within

DEBIANS = (REGISTRY,)  # docker-registry 2.8
OURS = (sys.executable, "-m", "sampan.registryd.main")
NEWEST = "SAMPAN_TEST_REGISTRY"  # a variable: where a docker-registry 3 is
OUTSIDE = "192.0.2.1"  # TEST-NET-1: an address that is not on the loopback network
_ACCESS = re.compile(rb'"([A-Z]+) (/\S*) HTTP/[\d.]+" (\d+)')


def _third() -> tuple[str, ...]:
    """Return docker-registry 3, which Debian has not: the one that is named, or `registry`."""
    found = os.environ.get(NEWEST) or shutil.which("registry") or ""
    if not found:
        return ()
    told = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=False, timeout=PATIENCE
    ).stdout
    assert "distribution/v3 " in told or NEWEST not in os.environ, f"{found} is another: {told!r}"
    return (found,) if "distribution/v3 " in told else ()


THIRD = _third()
NEEDS_THIRD = pytest.mark.skipif(
    not THIRD, reason=f"no docker-registry 3: ${NEWEST}, or `registry` on the PATH"
)
# Docker's registries, for tests of what goes with all of them.
DOCKERS = [
    pytest.param(DEBIANS, id="docker-registry 2"),
    pytest.param(THIRD, id="docker-registry 3", marks=NEEDS_THIRD),
]


@dataclass(frozen=True)
class Access:
    """One request, as the registry's access log tells it."""

    method: str
    path: str
    status: int


class Authority:
    """A certificate authority of one test, and a certificate for the registry."""

    def __init__(self, host: str) -> None:
        self.ca = trustme.CA()
        self.server = self.ca.issue_cert(host, LOOPBACK, "localhost")

    @property
    def certificate(self) -> bytes:
        """What a client must trust: the content of a `ca.crt`."""
        return self.ca.cert_pem.bytes()

    def client(self, name: str = "client@example.com") -> tuple[bytes, bytes]:
        """Return a client's certificate and key: `client.cert` and `client.key`."""
        issued = self.ca.issue_cert(name)
        return issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@dataclass
class Registry:
    """One docker-registry: where it listens, where it lives, what it was asked."""

    site: Site
    folder: Path
    users: Mapping[str, str] = field(default_factory=dict)
    tokens: TokenServer | None = None
    authority: Authority | None = None
    process: subprocess.Popen[bytes] | None = None
    program: tuple[str, ...] = DEBIANS
    _seen: int = 0

    @property
    def address(self) -> str:
        """host:port, as it stands in an image's name."""
        return self.site.address

    @property
    def url(self) -> str:
        return self.site.url

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def start(self) -> None:
        """Start it and wait until it listens; a second start takes the same port."""
        log = self.folder / "log"
        skip = log.stat().st_size if log.exists() else 0
        config = self.folder / "config.yml"
        settings = json.loads(config.read_text())  # JSON is YAML
        on_socket = settings["http"].get("net") == "unix"
        if not on_socket:
            settings["http"]["addr"] = f"{self.site.host}:{self.site.port}"
        config.write_text(json.dumps(settings))
        # docker-registry 3 would tell a collector of traces of every request.
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        with within(self.site.namespace), log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.program, "serve", str(config)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

        def listens() -> bool:
            text = log.read_bytes()[skip:]
            assert self.process
            assert self.process.poll() is None, text.decode(errors="replace")
            found = re.search(rb"listening on (?:\S+:(\d+)|/)[^\n]*\n", text)
            self.site.port = int(found[1]) if found and not on_socket else self.site.port
            return found is not None

        eventually(listens)

    def kill(self) -> None:
        """End it at once."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(PATIENCE)
            self.process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port and data."""
        self.kill()
        self.start()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request with all rights."""
        name = re.match(r"/v2/(.+)/(?:manifests|blobs|tags)/", path)
        given = {**self.authorization(name[1] if name else ""), **(headers or {})}
        return self.site.ask(method, path, body, given)

    def authorization(self, repository: str) -> dict[str, str]:
        """Return the header that gives all rights on a repository."""
        if self.tokens:
            user, kept = next(iter(self.tokens.users)), self.tokens.expired
            self.tokens.expired = 0
            token = self.tokens.token(user, [f"repository:{repository}:pull,push,delete"])
            self.tokens.expired = kept
            return {"Authorization": f"Bearer {token}"}
        for user, password in self.users.items():
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository."""
        reply = self.ask("GET", f"/v2/{repository}/tags/list")
        return sorted(reply.json["tags"] or []) if reply.status == 200 else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def accesses(self, part: str = "") -> list[Access]:
        """Return the requests since `forget`, in order of their ends."""
        text = (self.folder / "log").read_bytes()[self._seen :]
        found = [Access(m.decode(), p.decode(), int(s)) for m, p, s in _ACCESS.findall(text)]
        return [access for access in found if part in access.path]

    def forget(self) -> None:
        """Begin to count anew."""
        self._seen = (self.folder / "log").stat().st_size


def _settings(
    folder: Path, mirror_of: str, deletes: bool, authority: Authority | None, client_ca: bool
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": deletes},
        },
        "http": {"secret": "the same after a restart"},
        # Without this, manifests with foreign layers are refused.
        "validation": {"manifests": {"urls": {"allow": [".*"]}}},
    }
    if mirror_of:
        settings["proxy"] = {"remoteurl": mirror_of}
    if authority:
        chain, key = folder / "server.pem", folder / "server.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in authority.server.cert_chain_pems))
        key.write_bytes(authority.server.private_key_pem.bytes())
        settings["http"]["tls"] = {"certificate": str(chain), "key": str(key)}
        if client_ca:
            ca = folder / "clients.pem"
            ca.write_bytes(authority.certificate)
            settings["http"]["tls"]["clientcas"] = [str(ca)]
    return settings


@contextlib.contextmanager
def registry(
    namespace: str = "",
    *,
    host: str = LOOPBACK,
    tls: bool = False,
    client_ca: bool = False,
    client_auth: str = "",
    ciphers: Sequence[str] = (),
    users: Mapping[str, str] | None = None,
    tokens: TokenServer | None = None,
    mirror_of: str = "",
    deletes: bool = True,
    storage: Path | None = None,
    port: int = 0,
    program: tuple[str, ...] = DEBIANS,
    more: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Iterator[Registry]:
    """Run a registry in a network namespace ("" is the host's), with an empty or a given storage.

    `program` is DEBIANS, the THIRD, or OURS; `more` are further sections of its settings,
    `objects` is an object storage with its options, in the place of files.

    `users` are checked by htpasswd, `tokens` by a token server, `mirror_of` is the URL of another
    registry. With `client_ca` only clients with a certificate of the same authority get in.
    """
    assert shutil.which(program[0]), "apt-get install docker-registry"
    assert namespace or host == LOOPBACK, "only the loopback network of the host is ours"
    folder = scratch()
    authority = Authority(host) if tls else None
    site = Site(namespace, host, port, context=authority.context() if authority else None)
    if authority and client_ca:
        authority.ca.issue_cert("test@example.com").configure_cert(site.context)
    settings = _settings(folder, mirror_of, deletes, authority, client_ca)
    if client_auth:
        settings["http"]["tls"]["clientauth"] = client_auth
    if ciphers:
        settings["http"]["tls"]["ciphersuites"] = list(ciphers)
    if storage:
        settings["storage"]["filesystem"]["rootdirectory"] = str(storage)
    if objects:
        del settings["storage"]["filesystem"]
        settings["storage"] |= objects
        if program == OURS:
            settings["storage"]["state"] = {"directory": str(folder / "state")}
    if users:
        lines = [
            f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}"
            for user, password in users.items()
        ]
        (folder / "htpasswd").write_text("\n".join(lines) + "\n")
        settings["auth"] = {"htpasswd": {"realm": "under test", "path": str(folder / "htpasswd")}}
    if tokens:
        bundle = tokens.write_bundle(folder)
        settings["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(bundle),
            }
        }
    for section, given in (more or {}).items():
        merged = isinstance(given, Mapping)
        settings[section] = {**settings.get(section, {}), **given} if merged else given
    (folder / "config.yml").write_text(json.dumps(settings))
    if host != LOOPBACK:
        add_address(namespace, host)
    found = Registry(site, folder, dict(users or {}), tokens, authority, program=program)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)


def add_address(namespace: str, address: str) -> None:
    """Give the loopback interface of a namespace one more address, once."""
    subprocess.run(
        ["ip", "-n", namespace, "address", "replace", f"{address}/32", "dev", "lo"], check=True
    )
