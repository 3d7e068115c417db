"""What clients may take: as configured, and never more than the system gives."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from sampan.registry.configuration.document import Checked, check
from sampan.registryd import bounds


def checked(text: str = "") -> Checked:
    found = check(f"version: 0.1\nstorage: inmemory\n{text}".encode(), {})
    assert found.problems == ()
    return found


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_registry_takes_the_descriptors_that_it_may_have(descriptors: int) -> None:
    found = bounds.limits(checked())
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (descriptors, descriptors)
    known = descriptors if descriptors != resource.RLIM_INFINITY else bounds.MOST
    assert found.connections == min(8192, known // bounds.EACH)
    assert (found.requests, found.grace_seconds) == (256, 1.0)


def test_limits_are_as_configured_and_no_more_than_there_are_descriptors(descriptors: int) -> None:
    text = "http: {draintimeout: 5s, clients: {connections: 10, requests: 3}}"
    found = bounds.limits(checked(text))
    assert (found.connections, found.requests, found.grace_seconds) == (10, 3, 5.0)
    if descriptors != resource.RLIM_INFINITY:
        text = f"http: {{clients: {{connections: {descriptors}}}}}"
        assert bounds.limits(checked(text)).connections == descriptors // bounds.EACH


def test_no_clients_at_all_is_refused() -> None:
    found = check(b"version: 0.1\nstorage: inmemory\nhttp: {clients: {requests: 0}}", {})
    assert [str(problem) for problem in found.problems] == [
        "http.clients.requests: must be at least 1"
    ]


def test_proxies_are_believed_if_they_are_listed() -> None:
    assert bounds.proxies(checked("")) is None
    found = bounds.proxies(checked("http: {clients: {proxies: [127.0.0.1, unix]}}"))
    assert found
    assert found.client("127.0.0.1", "192.0.2.7") == "192.0.2.7"
