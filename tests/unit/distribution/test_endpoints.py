"""Which servers a name in a reference means."""

from __future__ import annotations

import asyncio

import pytest

from sampan.distribution.endpoints import Endpoint, Endpoints, names_of
from sampan.errors import InvalidArgument
from sampan.http.urls import Url


def endpoints(*insecure: str) -> Endpoints:
    return Endpoints(insecure, (), {})


def is_insecure(found: Endpoints, url: str) -> bool:
    return asyncio.run(found.is_insecure(Url.parse(url)))


def test_docker_hub_lives_elsewhere() -> None:
    assert endpoints().of("docker.io").name == "registry-1.docker.io"
    assert endpoints().of("a.example:5000") == Endpoint("a.example:5000", ("https", "http"))
    url = endpoints().of("docker.io").url("https", "library/x/manifests/1")
    assert str(url) == "https://registry-1.docker.io/v2/library/x/manifests/1"


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "localhost:5000"])
def test_the_loopback_network_is_insecure(host: str) -> None:
    assert is_insecure(endpoints(), f"https://{host}/")


@pytest.mark.parametrize(
    ("rule", "host", "expected"),
    [
        ("a.example", "a.example", True),
        ("a.example", "A.EXAMPLE:5000", True),
        ("a.example:5000", "a.example:5000", True),
        ("a.example:5000", "a.example", False),
        ("a.example:443", "a.example", True),
        ("a.example", "b.a.example", False),
        ("192.0.2.0/24", "192.0.2.9:5000", True),
        ("192.0.2.0/24", "192.0.3.9", False),
        ("192.0.2.9", "192.0.2.9:5000", True),
        ("2001:db8::/32", "[2001:db8::1]:5000", True),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000", True),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5001", False),
        ("127.0.0.0/8", "localhost.localdomain.invalid", False),
    ],
)
def test_insecure_registries_are_named_or_lie_in_networks(
    rule: str, host: str, expected: bool
) -> None:
    found = endpoints(rule)
    assert is_insecure(found, f"https://{host}/") is expected
    assert found.is_known_insecure(Url.parse(f"https://{host}/")) is expected


def test_an_insecure_registry_is_no_address() -> None:
    with pytest.raises(InvalidArgument, match="should not contain '://'"):
        endpoints("http://a.example")


def test_mirrors_stand_before_their_registry() -> None:
    found = Endpoints(
        (), ["https://m.example/"], {"q.example:5000": ["http://n.example:81/cache/", "https://o"]}
    )
    assert found.mirrors_of("docker.io") == [
        Endpoint("m.example", ("https",), is_mirror=True),
    ]
    assert found.mirrors_of("q.example:5000") == [
        Endpoint("n.example:81", ("http",), "cache/", is_mirror=True),
        Endpoint("o", ("https",), is_mirror=True),
    ]
    assert found.mirrors_of("q.example") == []


@pytest.mark.parametrize(
    "mirror", ["m.example", "https://u:p@m.example", "https://m/?x", "ftp://m", "https://m/#x"]
)
def test_a_mirror_is_a_plain_address(mirror: str) -> None:
    with pytest.raises(InvalidArgument):
        Endpoints((), [mirror], {})


def test_a_host_has_its_names_in_certs_d() -> None:
    assert names_of(Url.parse("https://a.example/")) == ("a.example", "a.example:443")
    assert names_of(Url.parse("https://a.example:5000/")) == ("a.example:5000",)
    assert names_of(Url.parse("https://[::1]:5000/")) == ("[::1]:5000",)
