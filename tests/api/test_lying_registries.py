"""Registries that lie, break off and refuse: one clear error, no half image, the next try works."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests import lying_registry as lies
from tests import ordeals
from tests.daemon import Daemon, running
from tests.lying_registry import Lie, LyingRegistry, lying_registry
from tests.ordeals import at_rest, check, complete, is_visible, pull
from tests.remote_images import Blob, Image, busybox, image, index, layer, push, small_layer

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

MADE = busybox(small_layer("base"), small_layer("top", b"hello" * 10_000))
TOP = MADE.layers[-1].digest
CONFIG = MADE.config.digest
MANIFESTS = "/manifests/"
VERIFICATION = "filesystem layer verification failed for digest"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


@pytest.fixture
def liar(daemon: Daemon) -> Iterator[LyingRegistry]:
    """A registry that has `a/b:1`, beside a daemon without images."""
    before = at_rest(daemon)
    with lying_registry(daemon.namespace) as liar:
        push(liar, "a/b", "1", MADE)
        yield liar
    ordeals.forget(daemon)
    ordeals.settles(daemon, before)
    check(daemon)


def name(liar: LyingRegistry, tag: str = "1") -> str:
    return f"{liar.address}/a/b:{tag}"


def pulls_afterwards(daemon: Daemon, liar: LyingRegistry, made: Image = MADE) -> None:
    """The registry becomes honest: the next pull works, and the image is whole."""
    liar.be_honest()
    assert pull(daemon, name(liar)).error == ""
    found = daemon.request("GET", f"/images/{name(liar)}/json").json
    assert found["Id"] == made.id
    check(daemon)


LAYER_LIES: dict[str, tuple[Lie, str]] = {
    "another byte": (lies.corrupt, VERIFICATION),
    "too long": (lies.longer, VERIFICATION),
    "too short": (lies.shorter, VERIFICATION),
    "empty": (lies.body(b""), VERIFICATION),
    "something else": (lies.body(b"<html>a portal</html>" * 100), VERIFICATION),
    "an endless body": (lies.endless, VERIFICATION),
    "unknown": (lies.status(404, "BLOB_UNKNOWN", "blob unknown to registry"), "unknown"),
    "denied": (lies.status(403, "DENIED", "requested access is denied"), "denied"),
    "a circle": (lies.circle, "redirects"),
    "a redirect to a file": (lies.redirect("file:///etc/passwd"), "bad redirect"),
    "a redirect to nothing": (lies.redirect(""), "."),
    "no status that is": (lies.status(299), "."),
}


@pytest.mark.parametrize("lie", LAYER_LIES)
def test_a_lie_about_a_layer_is_one_error_and_the_next_pull_goes_on(
    daemon: Daemon, liar: LyingRegistry, lie: str
) -> None:
    told, words = LAYER_LIES[lie]
    # The layers below are complete when the lie is told.
    liar.lie("GET", TOP, lies.when(lambda: complete(daemon) == len(MADE.layers) - 1, told))
    ended = pull(daemon, name(liar))
    assert ended.error
    assert_words(ended.error, words)
    assert ordeals.names(daemon) == set()
    check(daemon)
    liar.log.clear()
    pulls_afterwards(daemon, liar)
    # What was complete is not fetched again.
    assert [liar.log.count("GET", item.digest) for item in MADE.layers] == [0, 0, 1]


def assert_words(error: str, words: str) -> None:
    import re

    assert re.search(words, error), error
    assert "Traceback" not in error
    assert "\n" not in error.strip()


PASSING: dict[str, Lie] = {
    "broken off": lies.broken_off,
    "no answer": lies.no_answer,
    "unavailable": lies.status(503),
    "an internal error": lies.status(500),
    "too many requests": lies.status(429, "TOOMANYREQUESTS", "slow down", Retry_After="1"),
}


@pytest.mark.parametrize("lie", PASSING)
@pytest.mark.parametrize("part", ["layer", "configuration"])
def test_what_passes_is_tried_again(
    daemon: Daemon, liar: LyingRegistry, lie: str, part: str
) -> None:
    liar.lie("GET", TOP if part == "layer" else CONFIG, PASSING[lie], times=2)
    assert pull(daemon, name(liar)).error == ""
    assert liar.log.count("GET", TOP if part == "layer" else CONFIG) == 3


def test_a_transfer_that_broke_goes_on_where_it_was(daemon: Daemon, liar: LyingRegistry) -> None:
    import os

    big = image(small_layer("noise", os.urandom(1 << 20)))
    push(liar, "a/big", "1", big)
    liar.lie("GET", big.layers[0].digest, lies.broken_off, times=1)
    assert pull(daemon, f"{liar.address}/a/big:1").error == ""
    assert liar.log.count("GET", big.layers[0].digest) == 2


def test_a_registry_without_ranges_sends_all_again(daemon: Daemon, liar: LyingRegistry) -> None:
    liar.lie("GET", TOP, lies.broken_off, times=1)
    liar.lie("GET", TOP, lies.no_ranges)
    assert pull(daemon, name(liar)).error == ""


def test_a_body_without_a_length_is_taken(daemon: Daemon, liar: LyingRegistry) -> None:
    liar.lie("GET", "/blobs/", lies.unsized)
    assert pull(daemon, name(liar)).error == ""


MANIFEST_LIES: dict[str, tuple[Lie, str]] = {
    "no manifest": (lies.body(b"{}"), "."),
    "no JSON": (lies.body(b"nonsense"), "."),
    "a list": (lies.body(b"[]"), "."),
    "null": (lies.body(b"null"), "."),
    "nothing": (lies.body(b""), "."),
    "an endless one": (lies.endless, "."),
    "a circle": (lies.circle, "redirects"),
    "denied": (
        lies.status(403, "DENIED", "requested access to the resource is denied"),
        "pull access denied for .*, repository does not exist or may require 'docker login'",
    ),
    "unauthorized": (lies.status(401, "UNAUTHORIZED", "authentication required"), "unauthorized"),
    "an answer that is no error document": (lies.status(404), "unknown"),
    "another digest in its header": (
        lies.header(Docker_Content_Digest="sha256:" + "0" * 64),
        "digest|verification",
    ),
    "a page": (lies.media_type("text/html"), "."),
}


@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_a_lie_about_a_manifest_is_one_error(daemon: Daemon, liar: LyingRegistry, lie: str) -> None:
    told, words = MANIFEST_LIES[lie]
    liar.lie("", MANIFESTS, told)
    ended = pull(daemon, name(liar))
    if lie not in ("a page", "another digest in its header"):  # the content says what it is
        assert ended.error
        assert_words(ended.error, words)
        assert ordeals.names(daemon) == set()
    pulls_afterwards(daemon, liar)


@pytest.mark.parametrize("lie", [lies.corrupt, lies.longer, lies.shorter, lies.endless])
def test_a_lie_about_a_configuration_is_one_error(
    daemon: Daemon, liar: LyingRegistry, lie: Lie
) -> None:
    liar.lie("GET", CONFIG, lie)
    ended = pull(daemon, name(liar))
    assert_words(ended.error, "image config verification failed for digest|verification")
    assert ordeals.names(daemon) == set()
    pulls_afterwards(daemon, liar)


def test_an_unknown_tag_is_not_found(daemon: Daemon, liar: LyingRegistry) -> None:
    ended = pull(daemon, name(liar, "2"))
    assert ended.status == 404
    assert (
        ended.error
        == f"manifest for {name(liar, '2')} not found: manifest unknown: manifest unknown"
    )


def test_a_manifest_with_another_digest_is_refused(daemon: Daemon, liar: LyingRegistry) -> None:
    wanted = f"{liar.address}/a/b@{MADE.digest}"
    liar.lie("GET", MANIFESTS, lies.corrupt)
    assert pull(daemon, wanted).error
    other = image(small_layer("other"))
    liar.be_honest()
    liar.lie("GET", MANIFESTS, lies.body(other.manifest.content))
    assert_words(pull(daemon, wanted).error, "digest|verification")
    assert ordeals.names(daemon) == set()


# --- manifests that no registry should have taken -------------------------------------------------


def descriptor(size: int = 2, digest: str = CONFIG, kind: str = "") -> dict[str, object]:
    return {"mediaType": kind or MADE.config.media_type, "digest": digest, "size": size}


def manifest(config: object, layers: object, **more: object) -> Blob:
    document = {
        "schemaVersion": 2,
        "mediaType": MADE.manifest.media_type,
        "config": config,
        "layers": layers,
        **more,
    }
    return Blob(MADE.manifest.media_type, json.dumps(document).encode())


LAYERS = [item.descriptor for item in MADE.layers]
HONEST = MADE.config.descriptor
LAYER_KIND = MADE.layers[0].media_type
ABSURD: dict[str, Blob] = {
    "a huge size": manifest(HONEST, [*LAYERS[:-1], {**LAYERS[-1], "size": 2**63}]),
    "a larger size still": manifest(HONEST, [*LAYERS[:-1], {**LAYERS[-1], "size": 2**200}]),
    "a negative size": manifest(HONEST, [*LAYERS[:-1], {**LAYERS[-1], "size": -1}]),
    "a fraction": manifest(HONEST, [*LAYERS[:-1], {**LAYERS[-1], "size": 1.5}]),
    "a size of zero": manifest(HONEST, [*LAYERS[:-1], {**LAYERS[-1], "size": 0}]),
    "another size": manifest(HONEST, [*LAYERS[:-1], {**LAYERS[-1], "size": 77}]),
    "a path for a digest": manifest(HONEST, [{**LAYERS[0], "digest": "sha256:../../etc/passwd"}]),
    "an unknown algorithm": manifest(HONEST, [{**LAYERS[0], "digest": "md5:" + "0" * 32}]),
    "a short digest": manifest(HONEST, [{**LAYERS[0], "digest": "sha256:00"}]),
    "upper case in a digest": manifest(HONEST, [{**LAYERS[0], "digest": "sha256:" + "A" * 64}]),
    "a digest of nothing": manifest(HONEST, [{**LAYERS[0], "digest": ""}]),
    "a digest that is a number": manifest(HONEST, [{**LAYERS[0], "digest": 7}]),
    "no configuration": manifest(None, LAYERS),
    "a huge configuration": manifest({**HONEST, "size": 1 << 40}, LAYERS),
    "a layer for a configuration": manifest(LAYERS[0], LAYERS),
    "no layers": manifest(HONEST, None),
    "too few layers": manifest(HONEST, LAYERS[:-1]),
    "too many layers": manifest(HONEST, [*LAYERS, LAYERS[0]]),
    "layers in another order": manifest(HONEST, [LAYERS[1], LAYERS[0], LAYERS[2]]),
    "twenty thousand layers": manifest(HONEST, [LAYERS[0]] * 20_000),
    "layers that are strings": manifest(HONEST, ["a"]),
    "deep nesting": Blob(
        MADE.manifest.media_type, b'{"schemaVersion":2,"config":' + b"[" * 100_000
    ),
    "the first schema": Blob(
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        b'{"schemaVersion":1,"name":"a/b","tag":"1","fsLayers":[],"history":[]}',
    ),
    "control characters in a type": manifest(
        HONEST, [{**LAYERS[0], "mediaType": "application/\u001b[31m\n\u0000x"}]
    ),
}


@pytest.mark.parametrize("absurd", ABSURD)
def test_an_absurd_manifest_is_one_error(daemon: Daemon, liar: LyingRegistry, absurd: str) -> None:
    made = ABSURD[absurd]
    liar.manifests["a/b"]["absurd"] = (made.media_type, made.content)
    ended = pull(daemon, name(liar, "absurd"))
    assert_words(ended.error, ".")
    assert "privileged helper failed" not in ended.error
    assert ordeals.names(daemon) == set()
    assert "Traceback" not in daemon.log
    pulls_afterwards(daemon, liar)


def test_an_index_that_names_itself_or_only_others_is_refused(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    kind = index(MADE).manifest.media_type
    held = liar.manifests["a/b"]
    nested = Blob(
        kind, json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}).encode()
    )
    # A digest cannot name its own content, but a registry can answer so.
    for depth in range(20):
        held[nested.digest] = (kind, nested.content)
        entry = {**nested.descriptor, "platform": {"architecture": "amd64", "os": "linux"}}
        nested = Blob(
            kind,
            json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode(),
        )
        held[f"depth{depth}"] = (kind, nested.content)
    for tag in ("depth0", "depth19"):
        assert pull(daemon, name(liar, tag)).error
    many = index(*(image(small_layer("x"), architecture=f"cpu{n}") for n in range(300)))
    held["many"] = (many.manifest.media_type, many.manifest.content)
    ended = pull(daemon, name(liar, "many"))
    assert_words(ended.error, "no matching manifest for linux/")
    assert ordeals.names(daemon) == set()


def test_an_unknown_platform_is_one_error(daemon: Daemon, liar: LyingRegistry) -> None:
    push(liar, "a/c", "1", index(MADE, attestations=True))
    wanted = f"{liar.address}/a/c:1"
    assert pull(daemon, wanted, platform="foobar").status == 400
    ended = pull(daemon, wanted, platform="linux/s390x")
    assert_words(ended.error, "no matching manifest for linux/s390x in the manifest list entries")
    assert ordeals.names(daemon) == set()


CONFIGURATIONS: dict[str, bytes] = {
    "no JSON": b"nonsense",
    "null": b"null",
    "a list": b"[]",
    "no rootfs": b'{"architecture":"amd64","os":"linux"}',
    "paths for diff ids": json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["../x"]}}
    ).encode(),
    "other diff ids": json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64] * 3},
        }
    ).encode(),
    "deep nesting": b'{"config":' * 50_000,
}


@pytest.mark.parametrize("content", CONFIGURATIONS)
def test_an_absurd_configuration_is_one_error(
    daemon: Daemon, liar: LyingRegistry, content: str
) -> None:
    config = Blob(MADE.config.media_type, CONFIGURATIONS[content])
    liar.blobs["a/b"][config.digest] = config.content
    made = manifest(config.descriptor, LAYERS)
    liar.manifests["a/b"]["absurd"] = (made.media_type, made.content)
    assert_words(pull(daemon, name(liar, "absurd")).error, ".")
    assert ordeals.names(daemon) == set()
    assert "Traceback" not in daemon.log
    pulls_afterwards(daemon, liar)


def test_a_layer_of_zeros_that_is_large_when_it_is_unpacked_is_no_danger(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    bomb = layer(bytes(64 << 20))  # zeros after the end of an archive
    made = busybox(bomb)
    push(liar, "a/bomb", "1", made)
    ended = pull(daemon, f"{liar.address}/a/bomb:1")
    assert ended.error == "" or not is_visible(daemon, f"{liar.address}/a/bomb:1")
