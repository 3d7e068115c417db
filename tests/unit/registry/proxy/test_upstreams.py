"""Whose a repository is, and whom an upstream may lead us to."""

from __future__ import annotations

import ipaddress

import pytest

from sampan.http.urls import Url
from sampan.registry.errors import RegistryError
from sampan.registry.proxy.upstreams import Places, Upstream, own_namespaces

HUB = Upstream("hub", Url.parse("https://registry-1.docker.io"), "hub/", ("docker.io",))
QUAY = Upstream("quay", Url.parse("https://quay.io"), "quay/", ("quay.io",))
RED = Upstream("red", Url.parse("https://quay.io"), "quay/red/", ())


@pytest.mark.parametrize(
    ("name", "namespace", "upstream", "path", "here"),
    [
        ("hub/library/app", "", HUB, "library/app", "hub/library/app"),
        ("library/app", "docker.io", HUB, "library/app", "hub/library/app"),
        ("quay/coreos/etcd", "", QUAY, "coreos/etcd", "quay/coreos/etcd"),
        ("quay/red/app", "", RED, "app", "quay/red/app"),
        ("coreos/etcd", "quay.io", QUAY, "coreos/etcd", "quay/coreos/etcd"),
    ],
)
def test_a_place_is_found_by_prefix_or_namespace(
    name: str, namespace: str, upstream: Upstream, path: str, here: str
) -> None:
    place = Places([HUB, QUAY, RED]).of(name, namespace)
    assert place
    assert (place.upstream, place.path, place.repository) == (upstream, path, here)


def test_what_has_no_prefix_is_ours() -> None:
    places = Places([HUB, QUAY])
    assert places.of("team/app") is None
    assert places.of("hub") is None


def test_a_namespace_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RegistryError, match="no mirror"):
        Places([HUB, QUAY]).of("library/app", "ghcr.io")


def test_a_single_upstream_has_all_names_but_the_local_ones() -> None:
    only = Upstream("hub", Url.parse("https://registry-1.docker.io"))
    places = Places([only], ("team/*",))
    assert places.of("library/app", "whatever.example")
    assert places.of("team/app") is None


def test_docker_hub_is_called_docker_io() -> None:
    assert own_namespaces(HUB.url) == ("docker.io",)
    assert own_namespaces(Url.parse("http://10.0.0.1:5000")) == ("10.0.0.1:5000",)


@pytest.mark.parametrize(
    ("host", "address", "permitted"),
    [
        ("cdn.example.com", "93.184.216.34", True),
        ("cdn.example.com", "127.0.0.1", False),
        ("cdn.example.com", "10.1.2.3", False),
        ("cdn.example.com", "169.254.169.254", False),
        ("cdn.example.com", "::1", False),
        ("cdn.example.com", "::ffff:10.1.2.3", False),
        ("cdn.example.com", "64:ff9b::a9fe:a9fe", False),
        ("cdn.example.com", "64:ff9b::5db8:d822", True),
        ("cdn.example.com", "fe80::1%eth0", False),
        ("cdn.example.com", "224.0.0.1", False),
        ("cdn.example.com", "0.0.0.0", False),
        ("cdn.example.com", "168.63.129.16", False),  # Azure's wire server
        ("cdn.example.com", "fec0::2", False),
        ("cdn.example.com", "::127.0.0.1", False),
        ("cdn.example.com", "::ffff:0:127.0.0.1", False),
        ("cdn.example.com", "2002:7f00:1::", False),
        ("cdn.example.com", "2606:2800:220:1::1", True),
        ("cdn.example.com", "192.168.7.7", True),
        ("quay.io", "10.1.2.3", True),
        ("localhost", "localhost", False),
        ("cdn.example.com", "cdn.example.com", True),
    ],
)
def test_only_the_upstream_itself_may_be_inside(host: str, address: str, permitted: bool) -> None:
    network = ipaddress.ip_network("192.168.0.0/16")
    upstream = Upstream("quay", Url.parse("https://quay.io"), networks=(network,))
    assert upstream.permits(host, address) is permitted


def test_a_path_of_an_upstream_stands_before_v2() -> None:
    upstream = Upstream("one", Url.parse("https://example.com/docker/hub/"))
    assert str(upstream.endpoint.url("https", "a/b")) == "https://example.com/docker/hub/v2/a/b"
