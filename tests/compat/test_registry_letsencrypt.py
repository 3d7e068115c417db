"""Our registry with certificates that an ACME server signs, on its one port."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acme_server import AcmeServer, acme_server
from tests.pebble import Pebble, pebble
from tests.registries import OURS, Registry, registry
from tests.remote_images import digest, image, layer, push
from tests.session import PATIENCE, eventually, unique
from tests.wire import LOOPBACK, within

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
HOST, PORT, DAY = "registry.example.com", 443, 86400.0
CBC = ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"]  # which our own server has, and not granian
OWN = pytest.mark.parametrize("tls", [{}, {"ciphersuites": CBC}], ids=["granian", "own"])


@pytest.fixture
def namespace() -> Iterator[str]:
    name = unique()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def acme(namespace: str) -> Iterator[AcmeServer]:
    with acme_server(namespace, looks_at=(LOOPBACK, PORT)) as found:
        yield found


def settings(acme: AcmeServer | Pebble, path: Path, *more: str) -> dict[str, Any]:
    folder = str(path / "acme")
    asked = {"cachefile": folder, "hosts": [HOST, *more], "email": "me@example.com"}
    return {"http": {"tls": {"letsencrypt": {**asked, "directoryurl": acme.directory}}}}


def connect(hub: Registry, acme: AcmeServer | Pebble) -> ssl.SSLSocket:
    """Connect as a client that trusts the ACME server's authority and checks the name."""
    root = acme.root if isinstance(acme, Pebble) else acme.authority.pem.decode()
    context = ssl.create_default_context(cadata=root)
    with within(hub.site.namespace):
        sock = socket.create_connection((LOOPBACK, PORT), 20.0)
    return context.wrap_socket(sock, server_hostname=HOST)


def serial(hub: Registry, acme: AcmeServer | Pebble) -> str:
    with connect(hub, acme) as tls:
        return str((tls.getpeercert() or {})["serialNumber"])


def has_another(hub: Registry, acme: AcmeServer, before: str) -> bool:
    """Tell whether a new certificate is served; a handshake in just that moment is broken off."""
    try:
        return serial(hub, acme) != before
    except (ConnectionError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
        return False


def has_settled(hub: Registry) -> bool:
    """Tell whether the server that was there before is gone."""
    try:
        return all(hub.ask("GET", "/v2/").status == 200 for _ in range(5))
    except ConnectionError:
        return False


def trusting(hub: Registry) -> None:
    """Let the test's own requests take any certificate: those by `connect` look at it."""
    hub.site.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    hub.site.context.check_hostname = False
    hub.site.context.verify_mode = ssl.CERT_NONE


@OWN
def test_certificates_come_and_are_renewed_under_clients_and_outlast_the_registry(
    namespace: str, acme: AcmeServer, tmp_path: Path, tls: dict[str, Any]
) -> None:
    acme.age, acme.life, acme.refuse_after = 80 * DAY, 5 * DAY, 1
    more = settings(acme, tmp_path)
    more["http"]["tls"] |= tls
    with registry(namespace, program=OURS, port=PORT, more=more) as hub:
        trusting(hub)
        first = serial(hub, acme)
        # It is time for the next; the server refuses, and the old one goes on.
        eventually(lambda: "that is enough" in hub.log)
        large = layer(os.urandom(24 << 20), compression="")
        push(hub, "app", "1", image(large))
        assert serial(hub, acme) == first
        with connect(hub, acme) as client:
            path = f"/v2/app/blobs/{large.digest}"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, begun = client.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            received = bytearray(begun)
            acme.refuse, acme.refuse_after = "", -1
            acme.age, acme.life = 0.0, 90 * DAY
            assert hub.process
            hub.process.send_signal(signal.SIGHUP)
            eventually(lambda: has_another(hub, acme, first))
            while piece := client.recv(1 << 20):
                received += piece
        assert digest(bytes(received)) == large.digest
        eventually(lambda: has_settled(hub))
        second = serial(hub, acme)
        assert hub.ask("GET", path).body == large.content
        acme.refuse = "away"
        hub.restart()
        assert serial(hub, acme) == second
        assert len(acme.accounts) == 1


@OWN
def test_clients_are_served_through_the_gate_while_a_certificate_is_renewed(
    namespace: str, acme: AcmeServer, tmp_path: Path, tls: dict[str, Any]
) -> None:
    acme.age, acme.life, acme.refuse_after = 80 * DAY, 5 * DAY, 1
    more = settings(acme, tmp_path)
    more["http"]["tls"] |= tls
    with registry(namespace, program=OURS, port=PORT, more=more) as hub:
        trusting(hub)
        eventually(lambda: "that is enough" in hub.log)
        first = serial(hub, acme)
        looking, go_on = threading.Event(), threading.Event()
        look = acme.look

        def slowly(*about: str) -> str:
            looking.set()
            go_on.wait(2 * PATIENCE)
            return look(*about)

        acme.look = slowly  # type: ignore[method-assign]
        acme.refuse, acme.refuse_after, acme.age, acme.life = "", -1, 0.0, 90 * DAY
        assert hub.process
        hub.process.send_signal(signal.SIGHUP)
        assert looking.wait(PATIENCE)
        shipped = layer(os.urandom(3 << 20), compression="")
        push(hub, "app", "1", image(shipped))
        assert hub.ask("GET", f"/v2/app/blobs/{shipped.digest}").body == shipped.content
        assert serial(hub, acme) == first
        curl = ["curl", "-sSk", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
        enter = ["nsenter", f"--net=/run/netns/{namespace}"]
        told = subprocess.check_output([*enter, *curl, f"https://{LOOPBACK}/v2/"], text=True)
        assert told == ("1.1 200" if tls else "2 200")
        go_on.set()
        eventually(lambda: has_another(hub, acme, first))
        eventually(lambda: has_settled(hub))


def test_a_certificate_comes_from_pebble(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pebble(namespace, tmp_path, PORT) as acme:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(acme.bundle))
        more = settings(acme, tmp_path, "other.example.com")
        with registry(namespace, program=OURS, port=PORT, more=more) as hub:
            first = serial(hub, acme)
            hub.restart()
            assert serial(hub, acme) == first
            for kept in (tmp_path / "acme").glob("registry*"):
                kept.unlink()
            hub.restart()
            assert serial(hub, acme) != first
