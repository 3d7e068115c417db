"""The registry client and Debian's docker-registry: plain, with TLS, users, tokens, as a mirror.

Each test runs in a network namespace of its own: there, an address outside the loopback network is
one whose certificate is really checked.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.distribution.uploads import REPLAY_BYTES
from sampan.errors import Forbidden, InvalidArgument, NotFound, Unauthorized, Upstream
from sampan.http.proxies import Proxies
from sampan.spec.digest import Digest
from sampan.spec.reference import Reference
from tests import lying_registry as lies
from tests.asking import ask, descriptor, fetched, reader
from tests.registries import DEBIANS, OURS, OUTSIDE, Registry, registry
from tests.remote_images import OCTETS, Blob, Image, busybox, image, index, push, small_layer
from tests.scripted import Peer, scripted
from tests.session import PATIENCE, eventually, unique
from tests.tokens import token_server
from tests.wire import within

pytestmark = [pytest.mark.privileged, pytest.mark.compat]
IMAGE = image(small_layer("a"), small_layer("b", oci=True))
CAPTAIN = Credentials("captain", "secret")


@pytest.fixture
def namespace() -> Iterator[str]:
    name = unique()
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def there(
    namespace: str,
    name: str,
    work: Callable[[Repository], Awaitable[Any]],
    credentials: Credentials | None = None,
    push: bool = False,
    **settings: Any,
) -> Any:
    """Return what `work` returns of a repository, asked from inside the namespace."""
    reference = Reference.parse(name)

    async def do(registries: Registries) -> Any:
        return await work(registries.repository(reference, credentials, push=push))

    with within(namespace):
        return ask(do, **settings)


async def store(repository: Repository, what: Image, tag: str) -> None:
    """Push an image: one blob in the known way, the rest as if their digests were not known."""
    first, *others = what.blobs
    await repository.upload_known(descriptor(first), reader(first.content), lambda _: None)
    for blob in others:
        found = await repository.upload(reader(blob.content), lambda _: None)
        assert found == (blob.digest, len(blob.content))
    await repository.put_manifest(tag, what.manifest.media_type, what.manifest.content)


async def load(repository: Repository, what: Image, tag: str, folder: Path) -> None:
    """Pull an image and see that it is what it was."""
    assert (await repository.manifest(tag)).content == what.manifest.content
    for blob in what.blobs:
        assert await fetched(repository, descriptor(blob), folder) == blob.content
        assert await repository.has_blob(Digest(blob.digest)) == len(blob.content)


def both_ways(
    hub: Registry, folder: Path, credentials: Credentials | None = None, **settings: Any
) -> None:
    """Push and pull."""
    name = f"{hub.address}/fleet/app"
    namespace = hub.site.namespace
    there(namespace, name, lambda r: store(r, IMAGE, "1"), credentials, True, **settings)
    there(namespace, name, lambda r: load(r, IMAGE, "1", folder), credentials, **settings)
    tags = there(namespace, name, lambda r: r.tags(), credentials, **settings)
    assert tags == hub.tags("fleet/app") == ["1"]


def trust(folder: Path, hub: Registry, client: bool = False) -> dict[str, Any]:
    """Return settings with a certs.d in which the registry's authority is trusted."""
    assert hub.authority
    place = folder / "certs.d" / hub.address
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(hub.authority.certificate)
    if client:
        certificate, key = hub.authority.client()
        (place / "client.cert").write_bytes(certificate)
        (place / "client.key").write_bytes(key)
    return {"certificates": (folder / "certs.d",)}


# --- kinds of registries ---------------------------------------------------------------------


def test_a_plain_registry(namespace: str, tmp_path: Path) -> None:
    with registry(namespace) as hub:
        both_ways(hub, tmp_path)


def test_a_plain_registry_must_be_listed_as_insecure(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE) as hub:
        with pytest.raises(Upstream) as caught:
            both_ways(hub, tmp_path)
        assert str(caught.value) == (
            f'Get "https://{hub.address}/v2/": http: server gave HTTP response to HTTPS client'
        )
        both_ways(hub, tmp_path, insecure=("192.0.2.0/24",))


def test_a_registry_with_a_certificate(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE, tls=True) as hub:
        with pytest.raises(Upstream) as caught:
            both_ways(hub, tmp_path)
        assert str(caught.value) == (
            f'Get "https://{hub.address}/v2/": tls: failed to verify certificate:'
            " x509: certificate signed by unknown authority"
        )
        both_ways(hub, tmp_path, **trust(tmp_path, hub))


def test_an_insecure_registry_with_a_certificate(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE, tls=True) as hub:
        both_ways(hub, tmp_path, insecure=(hub.address,))


def test_a_registry_that_wants_certificates_of_clients(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE, tls=True, client_ca=True) as hub:
        settings = trust(tmp_path, hub)
        with pytest.raises(Upstream, match="remote error: tls: "):
            both_ways(hub, tmp_path, **settings)
        place = tmp_path / "certs.d" / hub.address
        assert hub.authority
        certificate, key = hub.authority.client()
        (place / "client.cert").write_bytes(certificate)
        with pytest.raises(InvalidArgument, match=r"missing key"):
            both_ways(hub, tmp_path, **settings)
        (place / "client.key").write_bytes(key)
        both_ways(hub, tmp_path, **settings)


def test_a_registry_with_users(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, users={"captain": "secret"}) as hub:
        both_ways(hub, tmp_path, CAPTAIN)
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            there(namespace, f"{hub.address}/fleet/app", lambda r: r.manifest("1"))
        with within(namespace):
            assert ask(lambda r: r.login(hub.address, CAPTAIN)).status == "Login Succeeded"
            with pytest.raises(Unauthorized, match="401 Unauthorized"):
                ask(lambda r: r.login(hub.address, Credentials("captain", "wrong")))


def test_a_registry_with_a_token_server(namespace: str, tmp_path: Path) -> None:
    with token_server(namespace) as tokens, registry(namespace, tokens=tokens) as hub:
        both_ways(hub, tmp_path, CAPTAIN)
        assert {tuple(asked.scopes) for asked in tokens.requests} == {
            ("repository:fleet/app:pull,push",),
            ("repository:fleet/app:pull",),
        }
        push(hub, "public/app", "1", IMAGE)
        there(namespace, f"{hub.address}/public/app", lambda r: load(r, IMAGE, "1", tmp_path))
        name = f"{hub.address}/fleet/app"
        with pytest.raises(NotFound) as caught:
            there(namespace, name, lambda r: r.manifest("1"))
        assert str(caught.value) == (
            f"pull access denied for {name}, repository does not exist or may require"
            " 'docker login': denied: requested access to the resource is denied"
        )
        with within(namespace):
            found = ask(lambda r: r.login(hub.address, CAPTAIN))
        identity = Credentials("captain", identity_token=found.identity_token)
        there(namespace, name, lambda r: load(r, IMAGE, "1", tmp_path), identity)


def test_a_registry_that_gave_up_tls_and_tokens_is_asked_anew(namespace: str) -> None:
    """As when somebody tries a registry of their own on localhost in one way after the other."""

    async def work(registries: Registries) -> None:
        with (
            token_server(namespace) as tokens,
            registry(namespace, tls=True, tokens=tokens) as hub,
        ):
            push(hub, "fleet/app", "1", IMAGE)
            name = Reference.parse(f"{hub.address}/fleet/app")
            assert (await registries.repository(name, CAPTAIN).manifest("1")).content
        with registry(namespace, port=hub.site.port) as hub:
            push(hub, "fleet/app", "2", IMAGE)
            assert (await registries.repository(name, CAPTAIN).manifest("2")).content

    with within(namespace):
        ask(work)


def test_a_partial_grant_is_a_denied_push(namespace: str, tmp_path: Path) -> None:
    with token_server(namespace) as tokens, registry(namespace, tokens=tokens) as hub:
        push(hub, "public/app", "1", IMAGE)
        tokens.rule = lambda user, kind, name: frozenset({"pull"})

        async def work(repository: Repository) -> None:
            assert await repository.has_blob(Digest(IMAGE.config.digest))
            denied = r"^denied: requested access to the resource is denied$"
            with pytest.raises(Forbidden, match=denied):
                await repository.upload(reader(b"x"), lambda _: None)
            with pytest.raises(Forbidden, match=denied):
                await repository.put_manifest(
                    "2", IMAGE.manifest.media_type, IMAGE.manifest.content
                )

        there(namespace, f"{hub.address}/public/app", work, CAPTAIN, push=True)


def test_expired_tokens_are_renewed_in_the_middle(namespace: str, tmp_path: Path) -> None:
    with token_server(namespace) as tokens, registry(namespace, tokens=tokens) as hub:
        tokens.expired = 1
        both_ways(hub, tmp_path, CAPTAIN)
        assert len(tokens.requests) > 2


def test_blobs_are_mounted_with_the_rights_for_both_repositories(namespace: str) -> None:
    with token_server(namespace) as tokens, registry(namespace, tokens=tokens) as hub:
        push(hub, "public/app", "1", IMAGE)
        digest = Digest(IMAGE.layers[0].digest)

        async def work(repository: Repository) -> None:
            assert await repository.mount(digest, "public/app")
            assert await repository.has_blob(digest)
            assert not await repository.mount(Digest("sha256:" + "0" * 64), "public/app")

        there(namespace, f"{hub.address}/fleet/other", work, CAPTAIN, push=True)


def test_a_pull_through_mirror(namespace: str, tmp_path: Path) -> None:
    with (
        registry(namespace) as hub,
        registry(namespace, mirror_of=hub.url) as mirror,
    ):
        push(hub, "library/app", "1", IMAGE)
        hub.forget()
        settings = {"hub_mirrors": (mirror.url,)}
        there(namespace, "app", lambda r: load(r, IMAGE, "1", tmp_path), **settings)
        eventually(lambda: mirror.accesses("/blobs/"))
        mirror.kill()
        mirrors = {"mirrors": {hub.address: (mirror.url,)}}
        name = f"{hub.address}/library/app"
        there(namespace, name, lambda r: load(r, IMAGE, "1", tmp_path), **mirrors)


def test_indexes_and_sha512_are_kept(namespace: str, tmp_path: Path) -> None:
    with registry(namespace) as hub:
        whole = index(IMAGE, attestations=True)
        push(hub, "app", "all", whole)

        async def work(repository: Repository) -> None:
            assert (await repository.manifest("all")).content == whole.manifest.content
            assert await repository.head("all") == descriptor(whole.manifest)
            for member in whole.images:
                assert (await repository.manifest(member.digest)).content
            blob = Blob(OCTETS, b"long digest", "sha512")
            await repository.upload_known(descriptor(blob), reader(blob.content), lambda _: None)
            assert await fetched(repository, descriptor(blob), tmp_path) == blob.content

        there(namespace, f"{hub.address}/app", work, push=True)


# --- bad days --------------------------------------------------------------------------------


def test_a_registry_that_is_killed_in_the_middle_is_asked_again(
    namespace: str, tmp_path: Path
) -> None:
    blob = Blob(OCTETS, os.urandom(24_000_000))
    with registry(namespace) as hub:

        async def upload(repository: Repository) -> None:
            await repository.upload_known(descriptor(blob), reader(blob.content), lambda _: None)

        there(namespace, f"{hub.address}/app", upload, push=True)
        reading, writing = os.pipe()
        restarted = False

        async def work(repository: Repository) -> bytes:
            async def fetch() -> None:
                try:
                    await repository.fetch_blob(descriptor(blob), writing, lambda _: None)
                finally:
                    os.close(writing)

            def collect() -> bytes:
                nonlocal restarted
                found = bytearray()
                while data := os.read(reading, 65536):
                    found += data
                    if len(found) > 4_000_000 and not restarted:
                        restarted = True
                        hub.restart()
                return bytes(found)

            collecting = asyncio.to_thread(collect)
            _, content = await asyncio.gather(fetch(), collecting)
            return content

        found = there(namespace, f"{hub.address}/app", work, backoff_seconds=0.5)
        os.close(reading)
        assert found == blob.content
        assert restarted


@pytest.mark.parametrize("program", [DEBIANS, OURS], ids=["docker-registry", "ours"])
def test_an_upload_to_a_registry_that_is_killed_is_worth_another(
    namespace: str, program: tuple[str, ...]
) -> None:
    """docker-registry forgets an upload that broke within a PATCH, ours the last pieces of it."""
    with registry(namespace, program=program) as hub:

        def restarting(content: bytes) -> Callable[[int], bytes]:
            read, given = reader(content), 0

            def restart_in_the_middle(size: int) -> bytes:
                nonlocal given
                data = read(size)
                if given < len(content) // 2 <= given + len(data):
                    hub.restart()
                given += len(data)
                return data

            return restart_in_the_middle

        async def work(repository: Repository) -> None:
            for size in (3_000_000, 32_000_000):
                blob = Blob(OCTETS, os.urandom(size))
                for send in (
                    lambda b: repository.upload(restarting(b.content), lambda _: None),
                    lambda b: repository.upload_known(
                        descriptor(b), restarting(b.content), lambda _: None
                    ),
                ):
                    failed: Upstream | None = None
                    try:
                        await send(blob)
                    except Upstream as error:
                        failed = error
                    found = await repository.has_blob(Digest(blob.digest))
                    assert found == (None if failed else size)
                    # Only so much is kept to be sent again.
                    assert failed is None or (failed.may_pass and size > REPLAY_BYTES)

        there(namespace, f"{hub.address}/app", work, push=True, backoff_seconds=0.2)


def test_a_secure_registry_cannot_send_us_where_there_is_no_tls(
    namespace: str, tmp_path: Path
) -> None:
    with (
        lies.lying_registry(namespace, host=OUTSIDE, tls=True) as liar,
        lies.lying_registry(namespace, host="192.0.2.2") as other,
    ):
        push(liar, "app", "1", IMAGE)
        place = tmp_path / "certs.d" / liar.address
        place.mkdir(parents=True)
        assert liar.authority
        (place / "ca.crt").write_bytes(liar.authority.certificate)
        settings = {"certificates": (tmp_path / "certs.d",)}
        name = f"{liar.address}/app"
        there(namespace, name, lambda r: r.manifest("1"), **settings)
        liar.lie("GET", "manifests", lies.redirect(f"{other.url}/v2/app/manifests/1"))
        with pytest.raises(Upstream, match=r"refused a redirect to 192\.0\.2\.2:\d+ without TLS"):
            there(namespace, name, lambda r: r.manifest("1"), **settings)
        liar.be_honest()
        liar.challenge = f'Bearer realm="{other.url}/token"'
        with pytest.raises(Upstream, match=r"the token server .* is not secure"):
            there(namespace, name, lambda r: r.manifest("1"), CAPTAIN, **settings)
        liar.lie("POST", "", lies.header(Location=f"{other.url}/v2/app/blobs/uploads/1"))
        liar.challenge = ""
        with pytest.raises(Upstream, match="refused to upload to"):
            there(namespace, name, lambda r: r.upload(reader(b"x"), lambda _: None), push=True,
                  **settings)  # fmt: skip
        assert other.log.count() == 0


def test_a_proxy_stands_before_a_secure_registry(tmp_path: Path) -> None:
    import socket
    import threading

    with registry(tls=True) as hub:

        def proxy(peer: Peer) -> None:
            head = peer.head()
            assert head.startswith(b"CONNECT registry.example:443 ")
            peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection((hub.site.host, hub.site.port)) as far:
                back = threading.Thread(target=pump, args=(far, peer.sock))
                back.start()
                pump(peer.sock, far)
                back.join()

        def pump(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        push(hub, "app", "1", busybox())
        with scripted(proxy) as server:
            found = there(
                "",
                "registry.example/app",
                lambda r: r.manifest("1"),
                insecure=("registry.example",),
                proxies=Proxies(https=server.address),
            )
        assert found.descriptor.digest == busybox().digest


def test_a_large_pull_is_cancelled_at_once(namespace: str, tmp_path: Path) -> None:
    with registry(namespace) as hub:
        content = bytes(64 << 20)
        blob = Blob(OCTETS, content)

        async def work(repository: Repository) -> bool:
            await repository.upload_known(descriptor(blob), reader(content), lambda _: None)
            reading, writing = os.pipe()
            task = asyncio.ensure_future(
                repository.fetch_blob(descriptor(blob), writing, lambda _: None)
            )
            await asyncio.to_thread(os.read, reading, 1)
            task.cancel()  # which nobody reads on for
            await asyncio.wait([task], timeout=PATIENCE)
            os.close(reading)
            os.close(writing)
            return task.cancelled()

        assert there(namespace, f"{hub.address}/app", work, push=True)
