"""containerd's CRI plugin, which pulls for Kubernetes, on our registry and its cache."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import grpc
import pytest

from tests.containerd import ImageService, image_service
from tests.documents import blocks
from tests.registries import OURS, OUTSIDE, Registry, registry
from tests.remote_images import image, index, push, small_layer
from tests.token_service import PATH, SERVICE, administer, registry_with_tokens

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
USERS = {"captain": "secret"}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs.d")


@pytest.fixture(scope="module")
def kubelet(namespace: str, hosts: Path) -> Iterator[ImageService]:
    with image_service(namespace, hosts) as found:
        yield found


@contextlib.contextmanager
def refused(*reasons: str) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert any(reason in str(caught.value) for reason in reasons), str(caught.value)


def know(hosts: Path, hub: Registry) -> None:
    """Let containerd trust a registry's authority."""
    assert hub.authority
    folder = hosts / hub.address
    folder.mkdir()
    (folder / "ca.crt").write_bytes(hub.authority.certificate)


def test_images_come_by_tag_and_by_digest_and_go(namespace: str, kubelet: ImageService) -> None:
    with registry(namespace, program=OURS) as hub:
        platforms = [image(small_layer(name), architecture=name) for name in ("amd64", "arm64")]
        there = f"{hub.address}/team/app"
        whole = push(hub, "team/app", "1", index(*platforms))
        id_ = kubelet.pull(f"{there}:1")
        assert kubelet.pull(f"{there}@{whole}") == id_
        (found,) = kubelet.list()
        assert (found.id, list(found.repo_tags)) == (id_, [f"{there}:1"])
        assert list(found.repo_digests) == [f"{there}@{whole}"]
        assert kubelet.status(f"{there}:1").id == id_
        kubelet.remove(f"{there}:1")
        assert kubelet.status(f"{there}:1").id == ""
        with refused("not found"):
            kubelet.pull(f"{there}:none")


def test_whoever_has_no_login_or_one_that_has_ended_pulls_nothing(
    namespace: str, kubelet: ImageService, hosts: Path
) -> None:
    with registry_with_tokens(namespace, USERS) as hub:
        know(hosts, hub)
        app = f"{hub.address}/captain/app:1"
        push(hub, "captain/app", "1", image(small_layer("kept")))
        with refused("authorization failed", "insufficient_scope"):
            kubelet.pull(app)
        with refused("401", "authorization failed"):
            kubelet.pull(app, username="captain", password="wrong")
        id_ = kubelet.pull(app, username="captain", password="secret")
        kubelet.remove_all()
        query = {"service": SERVICE, "offline_token": "true", "client_id": "kubelet"}
        login = {"Authorization": f"Basic {base64.b64encode(b'captain:secret').decode()}"}
        reply = hub.site.ask("GET", f"{PATH}?{urlencode(query)}", headers=login)
        kept = {"identity_token": reply.json["refresh_token"]}
        assert kubelet.pull(app, **kept) == id_
        kubelet.remove_all()
        administer(hub.folder / "config.yml", "session", "rm", "--user", "captain")
        with refused("401", "authorization failed"):
            kubelet.pull(app, **kept)


def test_a_cache_serves_what_its_upstream_no_longer_can(
    namespace: str, kubelet: ImageService, hosts: Path
) -> None:
    with registry(namespace) as hub:
        push(hub, "library/app", "1", image(small_layer("cached")))
        upstream = {"remoteurl": hub.url, "prefix": "hub", "namespaces": ["docker.io"]}
        more = {"proxy": {"upstreams": [upstream]}}
        with registry(namespace, host=OUTSIDE, tls=True, program=OURS, more=more) as cache:
            know(hosts, cache)
            page = blocks(
                "how-to/registry-clients.md", "A mirror for containerd and Kubernetes", "toml"
            )[1]
            text = page.replace("cache.example.com", cache.address)
            authority = str(hosts / cache.address / "ca.crt")
            (hosts / "docker.io").mkdir()
            text = text.replace("/etc/containerd/cache.crt", authority)
            (hosts / "docker.io/hosts.toml").write_text(text)
            id_ = kubelet.pull("docker.io/library/app:1")
            kubelet.remove_all()
            hub.kill()
            assert kubelet.pull("docker.io/library/app:1") == id_
            kubelet.remove_all()
