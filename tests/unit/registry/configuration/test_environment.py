from __future__ import annotations

import pytest

from sampan.registry.configuration.document import check

GOOD = b"version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n"


@pytest.mark.parametrize(
    ("name", "value", "place", "expected"),
    [
        ("HTTP_ADDR", ":6000", "http.addr", ":6000"),
        ("STORAGE_FILESYSTEM_ROOTDIRECTORY", "/x", "storage.filesystem.rootdirectory", "/x"),
        ("STORAGE_DELETE_ENABLED", "true", "storage.delete.enabled", True),
        ("CATALOG_MAXENTRIES", "12", "catalog.maxentries", 12),
        ("HTTP_TLS_CLIENTCAS", "[a, b]", "http.tls.clientcas", ["a", "b"]),
        ("HTTP_TLS_CLIENTCAS_0", "a", "http.tls.clientcas", ["a"]),
        ("LOG_FIELDS_SERVICE", "hub", "log.fields.service", "hub"),
        ("HTTP_HEADERS", "{X-A: [b]}", "http.headers.X-A", ["b"]),
        ("HTTP_HEADERS_X-Credentials", "[true]", "http.headers.x-credentials", ["true"]),
        ("PROXY_PASSWORD", "0123", "proxy.password", "0123"),
        ("HEALTH_FILECHECKERS_0_FILE", "/x", "health.file", [{"file": "/x"}]),
        ("HEALTH_FILE_0_FILE", "/x", "health.file", [{"file": "/x"}]),
        ("NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES", "true", "notifications.events", None),
        ("STORAGE", "{inmemory: }", "storage.filesystem", None),
    ],
)
def test_a_variable_overrides_a_key(name: str, value: str, place: str, expected: object) -> None:
    found = check(GOOD, {f"REGISTRY_{name}": value})
    if expected is None and name.startswith("NOTIFICATIONS"):
        expected = {"includereferences": True}
    assert found.get(place) == expected


def test_the_storage_can_be_another_one() -> None:
    environment = {
        "REGISTRY_STORAGE": "inmemory",
        "REGISTRY_STORAGE_DELETE_ENABLED": "true",
    }
    found = check(GOOD, environment)
    assert found.problems == ()
    assert found.get("storage.inmemory") == {}
    assert found.get("storage.delete.enabled") is True


def test_a_second_storage_is_refused() -> None:
    (found,) = check(GOOD, {"REGISTRY_STORAGE_S3_BUCKET": "x"}).problems
    assert "exactly one storage type. Provided: [filesystem s3]" in str(found)


def test_other_variables_are_passed_over() -> None:
    environment = {"PATH": "/bin", "REGISTRY_CONFIGURATION_PATH": "/x", "REGISTRYX": "1"}
    assert check(GOOD, environment).problems == ()


def test_what_kubernetes_sets_is_warned_about() -> None:
    (found,) = check(GOOD, {"REGISTRY_PORT": "tcp://10.0.0.1:5000"}).problems
    assert found.unknown
    assert "REGISTRY_PORT" in str(found)


@pytest.mark.parametrize(
    ("name", "value", "unknown"),
    [
        ("HTTP_ADR", "x", True),
        ("HTTP_TLS_CLIENTCAS_5", "x", False),
        ("HTTP_TLS_CLIENTCAS_X", "x", False),
        ("HTTP_ADDR", "[", False),
        ("LOG_LEVEL", "loud", False),
    ],
)
def test_what_cannot_be_followed_is_told(name: str, value: str, unknown: bool) -> None:
    found = check(GOOD, {f"REGISTRY_{name}": value}).problems
    assert [problem.unknown for problem in found] == [unknown]
