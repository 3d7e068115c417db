"""The section `proxy` of a configuration."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import check
from sampan.registry.proxy.logins import HelperLogin
from sampan.registry.proxy.upstreams import WEEK, Places
from sampan.registryd.upstreams import places


def read(proxy: Any, **environment: str) -> Places | None:
    document = {"version": 0.1, "storage": "inmemory", "proxy": proxy}
    checked = check(yaml.safe_dump(document).encode(), environment)
    assert all(problem.harmless for problem in checked.problems), checked.problems
    return places(checked)


def test_without_an_upstream_nothing_is_cached() -> None:
    assert read({"username": "me"}) is None


def test_what_docker_registry_knows_is_read() -> None:
    found = read(
        {"remoteurl": "https://registry-1.docker.io", "username": "me", "password": "mine"}
    )
    assert found
    (hub,) = found.upstreams
    assert (hub.name, hub.prefix, hub.ttl) == ("registry-1.docker.io", "", WEEK)
    assert hub.namespaces == ("docker.io",)
    assert not hub.is_public


@pytest.mark.parametrize(("ttl", "seconds"), [("24h", 86400.0), ("0", 0.0)])
def test_a_ttl_is_a_duration_and_0_is_for_ever(ttl: str, seconds: float) -> None:
    found = read({"remoteurl": "https://hub.example", "ttl": ttl})
    assert found
    assert found.upstreams[0].ttl == seconds


def test_a_helper_may_log_in() -> None:
    found = read({"remoteurl": "https://hub.example", "exec": {"command": "/bin/helper"}})
    assert found
    assert isinstance(found.upstreams[0].login, HelperLogin)


def test_several_upstreams_have_prefixes() -> None:
    hub = {"name": "hub", "remoteurl": "https://registry-1.docker.io", "prefix": "hub"}
    quay = {"remoteurl": "https://quay.io", "prefix": "/quay/", "networks": ["10.0.0.0/8"]}
    mirror = [{"repositories": ["a"], "cron": "0 3 * * *"}]
    found = read({"upstreams": [hub, {**quay, "mirror": mirror}], "local": ["team/*"]})
    assert found
    assert sorted(one.prefix for one in found.upstreams) == ["hub/", "quay/"]
    assert found.of("library/app", "docker.io")
    assert found.of("team/app") is None


def test_secrets_may_come_from_the_environment() -> None:
    hub = {"remoteurl": "https://hub.example", "username": "me"}
    found = read({"upstreams": [hub]}, REGISTRY_PROXY_UPSTREAMS_0_PASSWORD="mine")
    assert found
    assert not found.upstreams[0].is_public


@pytest.mark.parametrize(
    ("proxy", "sentence"),
    [
        ({"remoteurl": "hub.example"}, "no address"),
        ({"remoteurl": "https://me:mine@hub.example"}, "no address"),
        ({"upstreams": [{"name": "x"}]}, "is required"),
        ({"upstreams": [{"remoteurl": "https://a.b", "prefix": "A!"}]}, "begins no name"),
        ({"upstreams": [{"remoteurl": "https://a.b"}, {"remoteurl": "https://a.c"}]}, "prefix"),
        (
            {
                "remoteurl": "https://a.b",
                "upstreams": [{"remoteurl": "https://a.b", "prefix": "x"}],
            },
            "name",
        ),
        ({"remoteurl": "https://a.b", "username": "x", "exec": {"command": "y"}}, "not both"),
        ({"remoteurl": "https://a.b", "networks": ["nowhere"]}, "networks"),
        ({"remoteurl": "https://a.b", "mirror": [{"repositories": ["a"]}]}, "interval or a cron"),
        (
            {"remoteurl": "https://a.b", "mirror": [{"repositories": ["a"], "cron": "x"}]},
            "no cron",
        ),
        (
            {"remoteurl": "https://a.b", "mirror": [{"repositories": ["a"], "interval": "1s"}]},
            "a minute",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(proxy: Any, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        read(proxy)


def test_sizes_are_of_each_upstream_and_of_all() -> None:
    quay = {"remoteurl": "https://quay.io", "prefix": "quay", "maxsize": "10GB"}
    found = read({"remoteurl": "https://hub.example", "maxsize": "2GiB", "upstreams": [quay]})
    assert found
    assert found.max_size == 2 << 30
    assert {one.name: one.max_size for one in found.upstreams} == {
        "hub.example": None,
        "quay.io": 10**10,
    }
    nothing = read({"remoteurl": "https://hub.example"})
    assert nothing
    assert nothing.max_size is None
