"""Registries that lie and refuse while something is pushed: one clear error, then it works."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests import lying_registry as lies
from tests import ordeals
from tests.daemon import Daemon, running
from tests.lying_registry import Lie, LyingRegistry, lying_registry
from tests.ordeals import check, pull, push, tag

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

UPLOADS, MANIFESTS = "/uploads/", "/manifests/"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as daemon:
        daemon.import_image("local:1")
        yield daemon


@pytest.fixture
def liar(daemon: Daemon) -> Iterator[LyingRegistry]:
    """An empty registry, and the name `a/b:1` in it for our image."""
    before = ordeals.at_rest(daemon)
    with lying_registry(daemon.namespace) as liar:
        tag(daemon, "local:1", name(liar))
        yield liar
    ordeals.forget(daemon, "local:1")
    ordeals.settles(daemon, before)
    check(daemon)


def name(liar: LyingRegistry) -> str:
    return f"{liar.address}/a/b:1"


def uploads(liar: LyingRegistry) -> int:
    """Return how many times something was sent to an upload."""
    return liar.log.count("PATCH", UPLOADS) + liar.log.count("PUT", UPLOADS)


def pushes_afterwards(daemon: Daemon, liar: LyingRegistry) -> None:
    """The registry becomes honest: the next push works, and what it has is our image."""
    liar.be_honest()
    assert push(daemon, name(liar)).error == ""
    _, content = liar.manifests["a/b"]["1"]
    config = json.loads(content)["config"]["digest"]
    assert config == daemon.request("GET", "/images/local:1/json").json["Id"]
    assert set(liar.blobs["a/b"]) >= {config, *(x["digest"] for x in json.loads(content)["layers"])}


REFUSALS: dict[str, tuple[str, str, Lie, str]] = {
    "denied": (
        "POST",
        UPLOADS,
        lies.status(403, "DENIED", "requested access to the resource is denied"),
        "denied: requested access to the resource is denied",
    ),
    "an upload that may not begin": ("POST", UPLOADS, lies.status(405, "UNSUPPORTED"), "."),
    "a full registry": ("", UPLOADS, lies.status(507), "."),
    "no place to upload to": ("POST", UPLOADS, lies.header(Location=""), "Location"),
    "a place that is none": ("POST", UPLOADS, lies.header(Location="file:///etc/passwd"), "."),
    "a circle": ("POST", UPLOADS, lies.circle, "."),
    "another digest than was sent": (
        "PUT",
        UPLOADS,
        lies.status(400, "DIGEST_INVALID", "provided digest did not match uploaded content"),
        "digest",
    ),
    "a manifest that is refused": (
        "PUT",
        MANIFESTS,
        lies.status(400, "MANIFEST_INVALID", "manifest invalid"),
        "manifest invalid",
    ),
    "a manifest that is too large": ("PUT", MANIFESTS, lies.status(413), "."),
    "control characters": (
        "PUT",
        MANIFESTS,
        lies.status(400, "MANIFEST_INVALID", "\x1b[2J\x1b]0;title\x07\nfake line"),
        "fake line",
    ),
    "an endless answer": ("PUT", MANIFESTS, lies.endless, ""),
    "a page": ("PUT", MANIFESTS, lies.status(404), "."),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_one_error_and_the_next_push_works(
    daemon: Daemon, liar: LyingRegistry, refusal: str
) -> None:
    method, part, lie, words = REFUSALS[refusal]
    liar.lie(method, part, lie)
    ended = push(daemon, name(liar))
    if words:
        assert ended.error
    assert words in ended.error or words == "."
    assert not any(ord(c) < 32 for c in ended.error)
    assert "Traceback" not in daemon.log
    liar.log.clear()
    pushes_afterwards(daemon, liar)
    if part == MANIFESTS:  # the layers and the configuration were there already
        assert uploads(liar) == 0


PASSING: dict[str, Lie] = {
    "no answer": lies.no_answer,
    "unavailable": lies.status(503),
    "too many requests": lies.status(429, "TOOMANYREQUESTS", "slow down", Retry_After="1"),
}


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
@pytest.mark.parametrize("lie", PASSING)
def test_what_passes_is_tried_again(
    daemon: Daemon, liar: LyingRegistry, lie: str, method: str
) -> None:
    liar.lie(method, "", PASSING[lie], times=2)
    assert push(daemon, name(liar)).error == ""
    pushes_afterwards(daemon, liar)


def test_a_registry_that_takes_no_streams_gets_pieces(daemon: Daemon, liar: LyingRegistry) -> None:
    liar.lie("PATCH", UPLOADS, lies.status(411), times=1)
    assert push(daemon, name(liar)).error == ""
    pushes_afterwards(daemon, liar)


def test_a_registry_that_forgets_what_it_took_is_found_out(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    assert push(daemon, name(liar)).error == ""
    liar.blobs["a/b"].clear()
    liar.manifests["a/b"].clear()
    liar.log.clear()
    assert push(daemon, name(liar)).error == ""
    assert uploads(liar) > 0
    pushes_afterwards(daemon, liar)


def test_a_mount_that_is_not_granted_becomes_an_upload(daemon: Daemon, liar: LyingRegistry) -> None:
    assert push(daemon, name(liar)).error == ""
    liar.mounts = False
    target = f"{liar.address}/c/d:1"
    tag(daemon, "local:1", target)
    assert push(daemon, target).error == ""
    assert set(liar.blobs["c/d"]) == set(liar.blobs["a/b"])


def test_a_push_of_what_is_there_asks_once_for_each_blob(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    assert push(daemon, name(liar)).error == ""
    liar.log.clear()
    assert push(daemon, name(liar)).error == ""
    assert uploads(liar) == 0
    assert liar.log.count("HEAD", "/blobs/") == 2  # a layer and the configuration
    assert liar.log.count() <= 4


def test_a_pull_of_what_is_there_asks_once(daemon: Daemon, liar: LyingRegistry) -> None:
    assert push(daemon, name(liar)).error == ""
    assert pull(daemon, name(liar)).error == ""
    liar.log.clear()
    assert "Image is up to date" in pull(daemon, name(liar)).text
    assert liar.log.count() == 1
