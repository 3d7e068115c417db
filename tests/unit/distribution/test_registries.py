"""Docker Hub as it is reached: three hosts with TLS, here behind a proxy that plays all of them."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from sampan.distribution.config import RegistryConfig
from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.errors import NotFound
from sampan.http.proxies import Proxies
from sampan.spec.reference import Reference
from tests.asking import ask, config
from tests.remote_images import image, small_layer
from tests.scripted import Peer, ok, scripted

IMAGE = image(small_layer("a"))
HOSTS = ("registry-1.docker.io", "auth.docker.io", "index.docker.io")
CHALLENGE = (
    b'WWW-Authenticate: Bearer realm="https://auth.docker.io/token",'
    b'service="registry.docker.io",scope="repository:library/app:pull"'
)
FOUND = json.dumps({"results": [{"name": "app", "is_official": True}]}).encode()


def refused(status: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: 0", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Hub:
    """What it was asked, as `host method target` and `host credentials`."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.shown: set[tuple[str, str]] = set()
        authority = trustme.CA()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(self.tls)
        for host in HOSTS:
            (folder / host).mkdir()
            (folder / host / "ca.crt").write_bytes(authority.cert_pem.bytes())

    def __call__(self, peer: Peer) -> None:
        host = peer.head().split(b" ")[1].partition(b":")[0].decode()
        peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        with self.tls.wrap_socket(peer.sock, server_side=True) as sock:
            inner = Peer(sock, peer.ending)
            while head := inner.head().decode():
                method, target, _ = head.split(" ", 2)
                self.asked.append(f"{host} {method} {target}")
                shown = head.partition("Authorization: ")[2].partition("\r\n")[0]
                self.shown.add((host, shown))
                inner.say(self.answer(host, target, shown))

    def answer(self, host: str, target: str, shown: str) -> bytes:
        if host == "auth.docker.io":
            wrong = shown not in ("", "Basic Y2FwdGFpbjpzZWNyZXQ=")
            return (
                refused(b"401 Unauthorized") if wrong else ok(b'{"token": "t", "expires_in": 300}')
            )
        if host == "index.docker.io":
            return ok(FOUND)
        if shown != "Bearer t":
            return refused(b"401 Unauthorized", CHALLENGE)
        if target.endswith("/manifests/1"):
            kind = b"Content-Type: " + IMAGE.manifest.media_type.encode()
            return ok(IMAGE.manifest.content, kind)
        return ok() if target == "/v2/" else refused(b"404 Not Found")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Hub, RegistryConfig]]:
    hub = Hub(tmp_path)
    with scripted(hub) as proxy:
        proxies = Proxies(https=proxy.address)
        yield hub, config(certificates=(tmp_path,), proxies=proxies)


def asking(settings: RegistryConfig, work: Any) -> Any:
    return ask(work, **{name: getattr(settings, name) for name in ("certificates", "proxies")})


def test_an_official_image_is_pulled(hub: tuple[Hub, RegistryConfig]) -> None:
    async def work(registries: Registries) -> None:
        repository = registries.repository(
            Reference.parse("app:1"), Credentials("captain", "secret")
        )
        assert (await repository.manifest("1")).descriptor.digest == IMAGE.digest
        with pytest.raises(NotFound, match="error parsing HTTP 404 response body"):
            await repository.manifest("2")

    asking(hub[1], work)
    query = "service=registry.docker.io&scope=repository%3Alibrary%2Fapp%3Apull"
    assert hub[0].asked == [
        "registry-1.docker.io GET /v2/library/app/manifests/1",
        f"auth.docker.io GET /token?{query}&account=captain&client_id=docker",
        "registry-1.docker.io GET /v2/library/app/manifests/1",
        "registry-1.docker.io GET /v2/library/app/manifests/2",
    ]
    assert hub[0].shown == {
        ("registry-1.docker.io", ""),
        ("registry-1.docker.io", "Bearer t"),
        ("auth.docker.io", "Basic Y2FwdGFpbjpzZWNyZXQ="),
    }


@pytest.mark.parametrize("server", ["", "docker.io", "https://index.docker.io/v1/"])
def test_users_log_in(hub: tuple[Hub, RegistryConfig], server: str) -> None:
    async def work(registries: Registries) -> str:
        return (await registries.login(server, Credentials("captain", "secret"))).status

    assert asking(hub[1], work) == "Login Succeeded"
    assert "offline_token=true" in hub[0].asked[1]


@pytest.mark.parametrize("term", ["app", "docker.io/app", "index.docker.io/library/app"])
def test_images_are_found(hub: tuple[Hub, RegistryConfig], term: str) -> None:
    found = asking(hub[1], lambda registries: registries.search(term))
    assert [(one.name, one.is_official) for one in found] == [("app", True)]
    assert hub[0].asked == ["index.docker.io GET /v1/search?q=app&n=25"]


def test_other_settings_count_from_the_next_request_on(hub: tuple[Hub, RegistryConfig]) -> None:
    async def work(registries: Registries) -> None:
        reference = Reference.parse("app:1")
        before = registries.repository(reference)
        await before.manifest("1")
        registries.configure(config(hub_mirrors=("http://127.0.0.1:1",)))
        assert registries.repository(reference)._sessions[0].endpoint.name == "127.0.0.1:1"
        assert (await before.manifest("1")).descriptor.digest == IMAGE.digest

    asking(hub[1], work)
