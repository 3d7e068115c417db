"""The options about registries, and dockerd's complaints about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.configuring import load, reload
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.configuration.registry_options import (
    insecure_registry,
    masked,
    mirror,
    registry_name,
    registry_options,
)


def loaded(folder: Path, document: Any, *flags: str) -> Config:
    file = folder / "daemon.json"
    file.write_text(json.dumps(document))
    return load([f"--config-file={file}", *flags])


def test_without_options_there_are_dockerds_limits_and_no_mirrors() -> None:
    config = load([])
    assert registry_options(config) == ((), {}, ())
    assert config["max-concurrent-downloads"] == 3
    assert config["max-concurrent-uploads"] == 5
    assert config["max-download-attempts"] == 5


def test_mirrors_of_the_hub_come_from_flags_and_from_the_table() -> None:
    config = load(["--registry-mirror=https://m.example", "--registry-mirror=http://n.example/x/"])
    assert registry_options(config).hub_mirrors == ("https://m.example/", "http://n.example/x/")


def test_every_registry_may_have_mirrors_and_be_insecure(tmp_path: Path) -> None:
    table = {
        "ghcr.io": {"mirrors": ["https://m.example", "https://n.example"]},
        "registry.example:5000": {"insecure": True},
        "docker.io": {"mirrors": ["https://hub.example"]},
    }
    document = {"registries": table, "insecure-registries": ["10.0.0.0/8", "http://old.example"]}
    assert registry_options(loaded(tmp_path, document)) == (
        ("https://hub.example/",),
        {"ghcr.io": ("https://m.example/", "https://n.example/"), "registry.example:5000": ()},
        ("10.0.0.0/8", "old.example", "registry.example:5000"),
    )


def test_proxies_stand_where_dockerd_has_them(tmp_path: Path) -> None:
    proxies = {"http-proxy": "http://p:1", "https-proxy": "http://p:2", "no-proxy": "a,b"}
    config = loaded(tmp_path, {"proxies": proxies})
    assert config["http-proxy"] == "http://p:1"
    assert config["https-proxy"] == "http://p:2"
    assert config["no-proxy"] == "a,b"


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--max-concurrent-downloads=-1", "invalid max concurrent downloads: -1"),
        ("--max-concurrent-uploads=-1", "invalid max concurrent uploads: -1"),
        ("--max-download-attempts=0", "invalid max download attempts: 0"),
        (
            "--registry-mirror=m.example",
            'invalid mirror: no scheme specified for "m.example":'
            " must use either 'https://' or 'http://'",
        ),
        (
            "--registry-mirror=ftp://m.example",
            'invalid mirror: unsupported scheme "ftp" in "ftp://m.example":'
            " must use either 'https://' or 'http://'",
        ),
        (
            "--registry-mirror=https://m.example/?q",
            'invalid mirror: query or fragment at end of the URI "https://m.example/?q"',
        ),
        (
            "--registry-mirror=https://user:secret@m.example/",
            'invalid mirror: username/password not allowed in URI "https://user:xxxxx@m.example/"',
        ),
        (
            "--registry-mirror=https://m.example:port/",
            'invalid mirror: "https://m.example:port/" is not a valid URI',
        ),
        (
            "--insecure-registry=-a",
            "invalid index name (-a). Cannot begin or end with a hyphen",
        ),
        (
            "--insecure-registry=ftp://a",
            "insecure registry ftp://a should not contain '://'",
        ),
        (
            "--insecure-registry=a b",
            'insecure registry a b is not valid: invalid host "a b"',
        ),
        (
            "--insecure-registry=a:70000",
            'insecure registry a:70000 is not valid: invalid port "70000"',
        ),
        ("--http-proxy=socks5://p", "--http-proxy: socks5://p is not the address of a proxy"),
        ("--https-proxy=http://u:p@:x", "--https-proxy: http://xxxxx:xxxxx@:x is not the address"),
    ],
)
def test_what_cannot_work_is_refused_in_dockerds_words(flag: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        load([flag])
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([], "registries must be map, not []"),
        ({"a.example": 1}, "registries: a.example must be an object"),
        ({"a.example": {"mirrors": "x"}}, "a.example: mirrors must be a list of strings"),
        ({"a.example": {"insecure": "yes"}}, "a.example: insecure must be true or false"),
        ({"a.example": {"colour": 1}}, "a.example: colour: there is no such setting"),
        ({"https://a.example": {}}, "https://a.example is not host or host:port"),
        ({"a.example": {"mirrors": ["m"]}}, 'no scheme specified for "m"'),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(table: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        loaded(tmp_path, {"registries": table})
    assert sentence in str(refused.value)


def test_the_table_is_no_flag() -> None:
    with pytest.raises(UsageError, match="unknown flag: --registries"):
        load(["--registries={}"])


def test_a_reload_changes_what_dockerd_reloads_and_no_proxies() -> None:
    config = load([])
    document = {
        "registry-mirror": ["https://m.example"],
        "insecure-registry": ["a.example"],
        "registries": {"b.example": {"insecure": True}},
        "max-concurrent-downloads": 7,
        "http-proxy": "http://p:1",
    }
    changed = reload(config, document)
    assert sorted(changed) == sorted(set(document) - {"http-proxy"})
    assert registry_options(config).insecure == ("a.example", "b.example")


def test_a_reload_with_a_bad_mirror_changes_nothing() -> None:
    config = load([])
    with pytest.raises(UsageError, match="invalid mirror"):
        reload(config, {"registry-mirror": ["x"], "max-concurrent-downloads": 7})
    assert config["max-concurrent-downloads"] == 3


def test_a_proxy_of_the_options_wins_over_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sampan.daemon.wiring import registry_config

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://env:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://env:2")
    found = registry_config(load(["--https-proxy=http://option:3", "--no-proxy=a, B"])).proxies
    assert (found.http, found.https) == ("http://env:1", "http://option:3")
    assert found.exceptions == ("a", "b")


def test_the_client_is_told_all_options() -> None:
    from sampan.daemon.wiring import registry_config

    config = load(["--max-download-attempts=2", "--insecure-registry=a.example", "--exec-root=/x"])
    found = registry_config(config)
    assert (found.max_attempts, found.insecure) == (2, ("a.example",))
    assert [str(folder) for folder in found.certificates] == [
        "/etc/sampan/certs.d",
        "/etc/docker/certs.d",
        "/x/certs.d",
    ]


def test_the_password_of_a_proxy_is_hidden() -> None:
    assert masked("http://user:secret@p.example:3128/x") == "http://xxxxx:xxxxx@p.example:3128/x"
    assert masked("http://p.example:3128") == "http://p.example:3128"
    assert masked("p.example") == "p.example"


@pytest.mark.parametrize("check", [mirror, insecure_registry, registry_name])
@given(text=st.text(max_size=40))
def test_any_text_is_taken_or_refused(check: Any, text: str) -> None:
    try:
        assert isinstance(check(text), str)
    except UsageError:
        pass
