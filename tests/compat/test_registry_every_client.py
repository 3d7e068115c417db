"""Every client on every kind of registry: one day of work, from a wrong password to a logout.

The kinds are tried with one client each and the clients with one kind each; all others are `wide`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sampan.spec.image import MEDIA_DOCKER_MANIFEST, MEDIA_MANIFEST
from tests import registry_clients as clients
from tests.daemon import Daemon
from tests.documents import blocks
from tests.nginx import nginx
from tests.registries import OURS, OUTSIDE, Registry, registry
from tests.registry_clients import Client, Done
from tests.remote_images import busybox, index, push, small_layer
from tests.session import scratch
from tests.token_service import registry_with_tokens
from tests.tokens import token_server

pytestmark = [
    *(pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow),
    # docker-py leaves sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ACCEPT = {"Accept": f"{MEDIA_MANIFEST}, {MEDIA_DOCKER_MANIFEST}"}
USERS = {"captain": "secret"}
ANY = "require-any-client-cert"
CIPHERS = ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA")
KINDS = (
    *(
        "plain",
        "tls",
        "certificates",
        "any certificate",
        "passwords",
        "own tokens",
        "tokens",
        "silly",
    ),
    *("nginx", "nginx that buffers", "nginx on a socket"),
)
NAMES = (
    *("docker", "sampan", "docker-py", "docker on dockerd", "docker-py on dockerd"),
    *("podman", "buildah", "skopeo", "containerd"),
)
CORE = {
    ("docker on dockerd", "passwords"),
    ("docker-py on dockerd", "tls"),
    ("sampan", "own tokens"),
    ("docker-py", "plain"),
    ("podman", "certificates"),
    ("docker on dockerd", "any certificate"),
    ("skopeo", "any certificate"),
    ("podman", "any certificate"),
    ("buildah", "tokens"),
    ("skopeo", "silly"),
    ("skopeo", "nginx"),
    ("docker on dockerd", "nginx that buffers"),
    ("docker", "nginx on a socket"),
    ("containerd", "own tokens"),
    ("containerd", "certificates"),
}
CASES = [
    pytest.param(name, kind, marks=[] if (name, kind) in CORE else [pytest.mark.wide])
    for kind in KINDS
    for name in NAMES
]


@pytest.fixture(scope="module")
def trust() -> Iterator[Path]:
    folder = scratch()
    yield folder
    shutil.rmtree(folder)


@dataclass
class Harbour:
    """Engines with a network namespace each, where registries are started beside them."""

    trust: Path
    stack: ExitStack
    engines: dict[str, Daemon]
    found: dict[str, Client]
    sources: dict[str, Registry]

    def engine(self, program: str) -> Daemon:
        if program not in self.engines:
            daemon = self.stack.enter_context(clients.engine(self.trust, program))
            source = self.stack.enter_context(registry(daemon.namespace, program=OURS))
            push(source, "app", "1", busybox(small_layer("note"), Cmd=["true"]))
            self.engines[program], self.sources[daemon.namespace] = daemon, source
        return self.engines[program]

    def client(self, name: str) -> tuple[Client, Registry]:
        """Return a client, and a registry for everybody where it finds an image."""
        daemon = self.engine("dockerd" if name.endswith("dockerd") else "sampand")
        if name not in self.found:
            self.found[name] = self._make(name.partition(" ")[0], daemon)
        return self.found[name], self.sources[daemon.namespace]

    def _make(self, name: str, daemon: Daemon) -> Client:
        if name in ("docker", "sampan"):
            return clients.program(daemon, name)
        made: AbstractContextManager[Client] = {
            "docker-py": lambda: clients.library(daemon),
            "skopeo": lambda: clients.skopeo(daemon.namespace, self.trust),
            "containerd": lambda: clients.ctr(daemon.namespace, self.trust),
        }.get(name, lambda: clients.containers(name, daemon.namespace, self.trust))()
        return self.stack.enter_context(made)


@pytest.fixture(scope="module")
def harbour(trust: Path) -> Iterator[Harbour]:
    with ExitStack() as stack:
        yield Harbour(trust, stack, {}, {}, {})


@contextlib.contextmanager
def kind_of_registry(kind: str, namespace: str) -> Iterator[Registry]:
    """Run a registry of one of the kinds."""
    tls: dict[str, Any] = {"host": OUTSIDE, "tls": True}
    with ExitStack() as stack:

        def run(**how: Any) -> Registry:
            return stack.enter_context(registry(namespace, program=OURS, **how))

        if kind == "own tokens":  # in the registry's own process
            yield stack.enter_context(registry_with_tokens(namespace, USERS))
        elif kind in ("tokens", "silly"):
            server = stack.enter_context(token_server(namespace, USERS))
            silly = {"silly": {"realm": server.realm, "service": "anything"}}
            hub = run(tokens=server) if kind == "tokens" else run(more={"auth": silly})
            hub.tokens = server
            yield hub
        elif kind == "passwords":
            yield run(**tls, users=USERS)
        elif kind.startswith("nginx"):
            yield stack.enter_context(behind_nginx(kind, namespace))
        elif kind == "plain":
            yield run()
        elif kind == "any certificate":  # and suites of before: our own server has that TLS
            yield run(**tls, client_ca=True, client_auth=ANY, ciphers=CIPHERS)
        else:
            yield run(**tls, client_ca=kind == "certificates")


@contextlib.contextmanager
def behind_nginx(kind: str, namespace: str) -> Iterator[Registry]:
    """Run a registry and nginx as our documentation says, or with nginx's own defaults."""
    server, by_socket = blocks("how-to/registry-clients.md", "Behind nginx", "nginx")
    more: dict[str, Any] = {}
    with ExitStack() as stack:
        if kind == "nginx on a socket":
            server = by_socket
            place = stack.enter_context(tempfile.TemporaryDirectory())
            more = {"http": {"addr": f"{place}/sock", "net": "unix", "relativeurls": True}}
        elif kind == "nginx that buffers":
            server = re.sub(".*(buffering|http_version).*\n", "", server)
        hub = stack.enter_context(registry(namespace, program=OURS, more=more))
        yield stack.enter_context(nginx(namespace, hub, server))


def let_know(trust: Path, hub: Registry, with_key: bool) -> None:
    """Give the clients the authority of a registry, and a certificate of their own."""
    if not hub.authority:
        return
    folder = trust / hub.address
    folder.mkdir(exist_ok=True)
    (folder / "ca.crt").write_bytes(hub.authority.certificate)
    if with_key:
        certificate, key = hub.authority.client()
        (folder / "client.cert").write_bytes(certificate)
        (folder / "client.key").write_bytes(key)
        (folder / "client.key").chmod(0o600)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_day_of_work(harbour: Harbour, name: str, kind: str) -> None:
    client, source = harbour.client(name)
    with kind_of_registry(kind, source.site.namespace) as hub:
        let_know(harbour.trust, hub, kind in ("certificates", "any certificate"))
        for engine in harbour.engines.values():
            assert engine.process
            if engine.program != "dockerd":
                engine.process.send_signal(signal.SIGHUP)  # it looks at certificates again
        try:
            _work(client, source, hub, closed=kind in ("passwords", "own tokens", "tokens"))
        finally:
            client.logout(hub.address)
            client.remove_all()


def _work(client: Client, source: Registry, hub: Registry, closed: bool) -> None:
    there = f"{hub.address}/captain/app"
    app = f"{source.address}/app:1"
    done(client.pull(app))
    client.tag(app, f"{there}:1")
    if closed:
        assert not client.login(hub.address, "captain", "wrong")
        assert not client.push(f"{there}:1")
        assert hub.tags("captain/app") == []
        done(client.login(hub.address, "captain", "secret"))
    done(client.push(f"{there}:1"))
    digest = digest_of(hub, "captain/app", "1")
    client.remove_all()
    done(client.pull(f"{there}:1"))
    done(client.pull(f"{there}@{digest}"))
    _push_what_is_there(client, hub, there)
    platforms = [busybox(small_layer(name), architecture=name) for name in ("amd64", "arm64")]
    push(hub, "captain/many", "1", index(*platforms))
    done(client.pull(f"{hub.address}/captain/many:1"))
    assert not client.pull(f"{there}:none")
    if closed:
        client.logout(hub.address)
        client.remove_all()
        assert not client.pull(f"{there}:1")


def _push_what_is_there(client: Client, hub: Registry, there: str) -> None:
    """Push again, and elsewhere: no layer is sent a second time."""
    layer = layers_of(hub, "captain/app", "1")[0]
    hub.forget()
    other = f"{hub.address}/captain/other:1"
    for name in (f"{there}:2", other):
        client.tag(f"{there}:1", name)
        done(client.push(name))
    sent = [access.path for access in hub.accesses("/blobs/uploads/") if access.method == "PUT"]
    assert [path for path in sent if layer.partition(":")[2] in path] == []
    assert (hub.tags("captain/app"), hub.tags("captain/other")) == (["1", "2"], ["1"])


def done(what: Done) -> None:
    assert what, what.said


def digest_of(hub: Registry, name: str, tag: str) -> str:
    reply = hub.ask("HEAD", f"/v2/{name}/manifests/{tag}", headers=ACCEPT)
    return str(reply.headers["Docker-Content-Digest"])


def layers_of(hub: Registry, name: str, tag: str) -> list[str]:
    reply = hub.ask("GET", f"/v2/{name}/manifests/{tag}", headers=ACCEPT)
    return [item["digest"] for item in reply.json["layers"]]
