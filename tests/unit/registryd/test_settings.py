from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, Unavailable
from sampan.registry.auth.access import NoAccess
from sampan.registry.auth.silly import Silly
from sampan.registry.configuration.document import Checked, check
from sampan.registryd import governing, settings, sockets
from sampan.spec.platform import PlatformBody


def checked(text: str = "") -> Checked:
    found = check(f"version: 0.1\nstorage: inmemory\n{text}".encode(), {})
    assert not any(problem.stops or problem.unknown for problem in found.problems)
    return found


def test_defaults_are_docker_registrys() -> None:
    found = checked()
    service = settings.service(found)
    assert (service.prefix, service.host, service.deletes, service.read_only) == (
        *("/", "", False, False),
    )
    assert service.catalog_max == 1000
    assert isinstance(settings.access(found), NoAccess)
    purging = settings.purging(found)
    assert (purging.enabled, purging.age, purging.interval, purging.dry_run) == (
        *(True, 604800.0, 86400.0, False),
    )
    assert not settings.collecting(found).enabled
    assert settings.endpoints(found) == []
    assert not settings.validation(found).urls.permit("https://example.com/x")


def test_platforms_are_demanded_as_configured() -> None:
    arm, amd = (
        PlatformBody(os="linux", architecture="arm64"),
        PlatformBody(os="linux", architecture="amd64"),
    )

    def demanded(text: str) -> tuple[bool, ...]:
        rules = settings.validation(checked(f"validation: {{{text}}}")).platforms
        return tuple(rules.demand(one) for one in (arm, amd, None))

    amd_only = "platformlist: [{os: linux, architecture: amd64}]"
    assert demanded("") == (True, True, True)
    assert demanded("manifests: {indexes: {platforms: None }}") == (False, False, False)
    assert demanded(f"manifests: {{indexes: {{platforms: List, {amd_only}}}}}") == (
        *(False, True, False),
    )
    # A list without a platform lists all, as in docker-registry.
    assert demanded("manifests: {indexes: {platforms: list}}") == (True, True, True)
    assert demanded("disabled: true") == (False, False, False)


def test_urls_are_permitted_as_configured() -> None:
    text = """
validation:
  manifests: {urls: {allow: ['^https://([^/]+\\.)*example\\.com/'], deny: ['^https://www\\.']}}
"""
    rules = settings.validation(checked(text)).urls
    assert rules.permit("https://a.example.com/x")
    for url in ("https://www.example.com/x", "https://example.org/", "ftp://a.example.com/"):
        assert not rules.permit(url)
    assert not rules.permit("https://a.example.com/#x")
    only_deny = "validation: {manifests: {urls: {deny: ['^https://www']}}}"
    rules = settings.validation(checked(only_deny)).urls
    assert rules.permit("https://a/")
    assert not rules.permit("https://www/")
    assert settings.validation(checked("validation: {disabled: true}")).urls.permit("x:y")
    both = settings.validation(checked("validation: {enabled: true, disabled: true}"))
    assert not both.urls.permit("https://example.com/x")


def test_kinds_of_auth() -> None:
    silly = settings.access(checked("auth: {silly: {realm: x, service: y}}"))
    assert isinstance(silly, Silly)
    assert isinstance(settings.access(checked("auth: none")), NoAccess)


def test_endpoints_have_dockers_defaults() -> None:
    text = """
notifications:
  endpoints:
    - {name: a, url: 'http://a/', timeout: 500, backoff: 1000, threshold: 5,
       ignoredmediatypes: [x], ignore: {mediatypes: [y], actions: [pull]}}
    - {name: b, url: 'http://b/', version: v2}
    - {name: c, url: 'http://c/', disabled: true}
"""
    first, second = settings.endpoints(checked(text))
    assert (first.timeout, first.backoff) == (5e-7, 1e-6)  # numbers are nanoseconds
    assert first.threshold == 5
    assert first.ignored_media_types == {"x", "y"}
    assert first.ignored_actions == {"pull"}
    assert (second.timeout, second.backoff, second.threshold) == (1.0, 1.0, 10)
    assert (first.version, second.version) == ("v1", "v2")
    twice = "notifications: {endpoints: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]}"
    with pytest.raises(InvalidArgument, match="same name"):
        settings.endpoints(checked(twice))


def test_health_checks_are_those_that_are_configured() -> None:
    text = """
health:
  storagedriver: {enabled: true, interval: 5s, threshold: 3}
  file: [{file: /down, interval: 1s, threshold: 7}]
  http: [{uri: 'http://x/', statuscode: 204}]
  tcp: [{addr: 'x:1', timeout: 2s, threshold: 2}]
"""
    found = settings.checks(checked(text), lambda: None)
    assert [(c.name, c.interval, c.threshold) for c in found] == [
        ("storagedriver_inmemory", 5.0, 3),
        ("/down", 1.0, 1),
        ("http://x/", 10.0, 1),
        ("x:1", 10.0, 2),
    ]


def test_a_collection_without_a_delay_is_refused_while_serving() -> None:
    place = "storage: {inmemory: , maintenance: {garbagecollection: {enabled: true, delay: 1s}}}"
    found = check(f"version: 0.1\n{place}\n".encode(), {})
    with pytest.raises(InvalidArgument, match="delay"):
        settings.collecting(found)


@pytest.mark.parametrize("address", ["", "x", "1.2.3.4", "127.0.0.1:99999", "127.0.0.1:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match=r"http\.addr"):
        sockets.listen(address, "tcp", {})


def test_answers_are_sent_at_once() -> None:
    with sockets.listen("127.0.0.1:0", "tcp", {}) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_that_is_taken_is_told() -> None:
    with (
        sockets.listen("127.0.0.1:0", "tcp", {}) as first,
        pytest.raises(Unavailable, match="in use"),
    ):
        sockets.listen(sockets.name_of(first), "tcp", {})


def test_a_path_is_listened_on_and_an_old_socket_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    sockets.listen(path, "unix", {}).close()
    with sockets.listen(path, "unix", {}) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert sockets.name_of(listener) == path
    with pytest.raises(InvalidArgument):
        sockets.listen("", "unix", {})


@pytest.mark.parametrize("name", ["file", "link", "file/x", "x" * 200, "a\0b"])
def test_a_path_that_can_be_no_socket_is_told_and_left(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(Unavailable) as caught:
        sockets.listen(f"{tmp_path}/{name}", "unix", {})
    assert not str(caught.value).endswith("None")
    assert (tmp_path / "link").read_text() == "kept"


def test_quotas_are_read() -> None:
    text = "quotas: [{repositories: a/*, size: 5GiB, tags: 3}, {repositories: '**', size: 1kB}]"
    first, second = governing.quotas(checked(text))
    assert (first.size, first.tags, first.together) == (5 << 30, 3, False)
    assert (second.pattern.text, second.size, second.tags) == ("**", 1000, None)
    for wrong in ("{repositories: a}", "{repositories: a/*, size: 1, together: true}"):
        with pytest.raises(InvalidArgument, match=r"quotas\[0\]: the quota of a"):
            governing.quotas(checked(f"quotas: [{wrong}]"))
    assert check(
        b"version: 0.1\nstorage: inmemory\nquotas: [{repositories: a, size: x}]", {}
    ).problems


def test_rules_of_retention_are_read() -> None:
    text = """
retention:
  interval: 1h
  rules:
    - {repositories: [a/*], protected: [v*], keeplast: 3, keepwithin: 24h, untagged: 1h}
"""
    found = governing.retaining(checked(text))
    (rule,) = found.rules
    assert (found.interval, rule.last, rule.within, rule.untagged) == (3600.0, 3, 86400.0, 3600.0)
    assert [pattern.text for pattern in (*rule.tags, *rule.protected)] == ["*", "v*"]
    assert not governing.retaining(checked()).rules
    for wrong, why in (
        ("{repositories: [a]}", "keeps everything"),
        ("{repositories: [a], untagged: 1s}", "at least a minute"),
        ("{repositories: [a], keeplast: 1, tags: [a/b]}", "no pattern for tags"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            governing.retaining(checked(f"retention: {{rules: [{wrong}]}}"))
    with pytest.raises(InvalidArgument, match="interval"):
        governing.retaining(checked("retention: {interval: 0s, rules: []}"))


def test_scrubbing_and_the_audit_log_are_read(tmp_path: Path) -> None:
    assert not governing.scrubbing(checked()).enabled
    found = governing.scrubbing(checked("scrub: {enabled: true, rate: 5MB, interval: 24h}"))
    assert (found.enabled, found.rate, found.interval) == (True, 5e6, 86400.0)
    with pytest.raises(InvalidArgument, match="interval"):
        governing.scrubbing(checked("scrub: {interval: 0s}"))
    assert governing.audit(checked()) is None
    for name, why in (("none", "No such file"), ("short", "less than 16 bytes")):
        (tmp_path / "short").write_text("x")
        text = f"audit: {{path: {tmp_path}/log, keyfile: {tmp_path}/{name}}}"
        with pytest.raises(InvalidArgument, match=why):
            governing.audit(checked(text))


def test_middlewares_are_those_that_are_configured(caplog: pytest.LogCaptureFixture) -> None:
    text = """
middleware:
  storage:
    - {name: redirect, options: {baseurl: 'https://cdn.test'}}
    - {name: rewrite, disabled: true, options: {host: other}}
    - {name: cloudfront}
"""
    with settings.open_registry(checked(text)) as registry:
        assert registry.blobs.addresses.url("a", "GET", "") == "https://cdn.test/a"
    assert "cloudfront works with the storage s3 only" in caplog.text
    assert settings.service(checked(text)).redirect
    wrong = checked("middleware: {storage: [{name: redirect}]}")
    with pytest.raises(InvalidArgument, match=r"middleware\.storage\[0\]\.options\.baseurl"):
        settings.try_storage(wrong)


def test_no_address_of_a_layer_keeps_an_expression_busy() -> None:
    # As docker-registry's own documentation has it: for a moment there are two ways to read each
    # letter, and so 2^30000 of them for this address.
    pattern = r"^https?://([^/]+\.)*example\.com/"
    rules = settings.validation(
        checked(f"validation: {{manifests: {{urls: {{allow: ['{pattern}']}}}}}}")
    )
    assert rules.urls.permit("https://cdn.example.com/layer")
    assert not rules.urls.permit(f"https://{'a.' * 30_000}org/layer")


@pytest.mark.parametrize(("given", "most"), [("7", 7), ("0", 1000), ("-3", 1000)])
def test_no_entries_at_most_are_as_many_as_usual(given: str, most: int) -> None:
    assert settings.service(checked(f"catalog: {{maxentries: {given}}}")).catalog_max == most


def test_classes_are_those_that_are_listed() -> None:
    assert settings.service(checked("")).classes == []
    found = settings.service(checked("policy: {repository: {classes: [image, plugin]}}"))
    assert found.classes == ["image", "plugin"]
