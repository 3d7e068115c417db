"""Our registry as a mirror, set up as our documentation says: dockerd, containerd, podman, skopeo.

`docker.io` and `other.example.com` cannot be reached from here: what arrives came by the mirror.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.containerd import containerd
from tests.daemon import Daemon
from tests.documents import blocks
from tests.registries import OURS, OUTSIDE, Registry, registry
from tests.registry_clients import engine, program
from tests.remote_images import busybox, image, index, push, small_layer
from tests.session import eventually, scratch

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
PAGE = "how-to/registry-clients.md"
AUTHORITY = "/etc/containerd/cache.crt"


@dataclass
class Caches:
    """A cache with TLS before two registries, each of which has images of its own."""

    namespace: str
    hub: Registry
    other: Registry
    cache: Registry
    authority: Path

    def settings(self, heading: str, language: str, number: int = 0) -> str:
        """Return settings from our documentation for this cache."""
        text = blocks(PAGE, heading, language)[number]
        return text.replace("cache.example.com", self.cache.address).replace(
            AUTHORITY, str(self.authority)
        )

    def fetched(self) -> list[str]:
        """Return the blobs that were fetched from the registries behind the cache."""
        found = [*self.hub.accesses("/blobs/"), *self.other.accesses("/blobs/")]
        return [access.path for access in found if access.method == "GET"]

    def count_blobs(self) -> int:
        """Count the blobs of all repositories behind the cache."""
        links = "docker/registry/v2/repositories/**/_layers/sha256/*/link"
        return sum(len(list(one.storage.glob(links))) for one in (self.hub, self.other))


@pytest.fixture(scope="module")
def upstreams(namespace: str) -> Iterator[tuple[Registry, Registry]]:
    with registry(namespace) as hub, registry(namespace) as other:
        platforms = [busybox(small_layer(name), architecture=name) for name in ("amd64", "arm64")]
        push(hub, "library/app", "1", index(*platforms))
        push(other, "team/tool", "1", image(small_layer("tool")))
        yield hub, other


@pytest.fixture(params=["/", "/registry/"])
def caches(
    request: pytest.FixtureRequest,
    namespace: str,
    upstreams: tuple[Registry, Registry],
    tmp_path: Path,
) -> Iterator[Caches]:
    hub, other = upstreams
    listed = [
        {"remoteurl": hub.url, "prefix": "hub", "namespaces": ["docker.io"]},
        {"remoteurl": other.url, "prefix": "other", "namespaces": ["other.example.com"]},
    ]
    more: dict[str, Any] = {"proxy": {"upstreams": listed}, "http": {"prefix": request.param}}
    with registry(namespace, host=OUTSIDE, tls=True, program=OURS, more=more) as cache:
        assert cache.authority
        authority = tmp_path / "ca.crt"
        authority.write_bytes(cache.authority.certificate)
        for registry_ in upstreams:
            registry_.forget()
        yield Caches(namespace, hub, other, cache, authority)


IMAGES = ("docker.io/library/app:1", "other.example.com/team/tool:1")


def test_containerd_finds_each_registry_in_one_cache(caches: Caches, tmp_path: Path) -> None:
    below = '"prefix": "/registry/"' in (caches.cache.folder / "config.yml").read_text()
    default = tmp_path / "certs.d" / "_default"
    default.mkdir(parents=True)
    text = caches.settings("A mirror for containerd and Kubernetes", "toml", 2 if below else 1)
    (default / "hosts.toml").write_text(text)
    with containerd(caches.namespace) as ctr:
        pull = ["images", "pull", "--hosts-dir", default.parent]
        for name in IMAGES:
            ctr(*pull, "--all-platforms", name)
        # A registry says what it was asked for when it has answered.
        eventually(lambda: len(caches.fetched()) >= caches.count_blobs())
        first = caches.fetched()
        assert len(first) == len(set(first)) == caches.count_blobs() > 0
        absent = ctr(*pull, "docker.io/library/none:1", check=False).stderr
        assert "trying next host - response was http.StatusNotFound" in absent
        ctr(*pull, "unknown.example.com/app:1", check=False)
        assert '"GET /v2/app' not in caches.hub.log + caches.other.log
        eventually(lambda: "ns=unknown.example.com" in caches.cache.log)
    with containerd(caches.namespace) as another:
        for name in IMAGES:
            another(*pull, "--all-platforms", name)
    assert caches.fetched() == first


@pytest.fixture
def home() -> Iterator[Path]:
    folder = scratch()  # podman wants a short path
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("caches", ["/"], indirect=True)
@pytest.mark.parametrize("client", ["podman", "skopeo"])
def test_podman_and_skopeo_find_each_registry_below_its_prefix(
    caches: Caches, client: str, home: Path, tmp_path: Path
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(caches.settings("A mirror for podman, buildah and skopeo", "toml"))
    environment = {**os.environ, "HOME": str(home), "CONTAINERS_REGISTRIES_CONF": str(conf)}
    store = ["--root", home / "root", "--runroot", home / "run", "--storage-driver", "vfs"]

    def run(*words: str | Path) -> None:
        command = ["nsenter", f"--net=/run/netns/{caches.namespace}", *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    for number, name in enumerate(IMAGES):
        if client == "podman":
            run("podman", *store, "pull", "--cert-dir", caches.authority.parent, name)
        else:
            known = ["--registries-conf", conf, "copy", "--src-cert-dir", caches.authority.parent]
            run("skopeo", *known, f"docker://{name}", f"dir:{home}/{number}")
    if client == "podman":
        run("podman", *store, "rmi", "-af")
    assert caches.cache.ask("GET", "/v2/_catalog").json["repositories"] == [
        *("hub/library/app", "other/team/tool")
    ]


def _count_gets(hub: Registry) -> int:
    return [access.method for access in hub.accesses("/blobs/sha256")].count("GET")


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[Daemon]:
    """Docker's engine with the mirror of our documentation, which is started later."""
    (tmp_path / "trust").mkdir()
    (text,) = blocks(PAGE, "A mirror for Docker's engine", "json")
    (tmp_path / "daemon.json").write_text(text.replace("cache.example.com", f"{OUTSIDE}:5001"))
    options = [f"--config-file={tmp_path}/daemon.json"]
    with engine(tmp_path / "trust", "dockerd", *options) as daemon:
        yield daemon


def test_dockers_engine_asks_its_mirror_first(dockerd: Daemon, tmp_path: Path) -> None:
    docker = program(dockerd, "docker")
    with registry(dockerd.namespace) as hub:
        push(hub, "library/app", "1", busybox(small_layer("mirrored"), Cmd=["true"]))
        place: dict[str, Any] = {"host": OUTSIDE, "port": 5001, "tls": True, "program": OURS}
        with registry(dockerd.namespace, mirror_of=hub.url, **place) as cache:
            assert cache.authority
            folder = tmp_path / "trust" / cache.address
            folder.mkdir()
            (folder / "ca.crt").write_bytes(cache.authority.certificate)
            assert (done := docker.pull("app:1")), done.said
            eventually(lambda: _count_gets(cache) >= 3)
            assert _count_gets(cache) == 3
            docker.remove_all()
            hub.kill()
            assert (done := docker.pull("app:1")), done.said
            docker.remove_all()
