"""Collection: what nobody needs goes, and nothing that a client was promised."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sampan.registry import paths
from sampan.registry.drivers.driver import Change
from sampan.registry.registry import Registry
from sampan.registry.upkeep.gc import Collected
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST
from tests.own_registry import Shop, index, manifest, serving, sha

NOW, LONG = -1.0, 3600.0  # delays: what was promised just now is old already, or is not


def collect(shop: Shop, delay: float = NOW, **more: bool) -> Collected:
    return shop.registry.collector.collect(delay, **more)


def test_what_a_manifest_needs_stays(shop: Shop) -> None:
    shop.push("team/app", "1")
    assert collect(shop) == Collected()
    assert collect(shop, untagged=True) == Collected()
    assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").status == 200


def test_what_nobody_needs_goes_from_all_repositories(shop: Shop) -> None:
    for name in ("team/app", "team/other"):
        shop.push_blob(name, b"lonely")
    found = collect(shop)
    assert (found.blobs, found.bytes) == ([sha(b"lonely")], 6)
    for name in ("team/app", "team/other"):
        assert shop.get(f"/v2/{name}/blobs/{sha(b'lonely')}").status == 404
        assert shop.registry.driver.list(f"{paths.layers(name)}/sha256") == []
    assert shop.registry.driver.list(f"{paths.BLOBS}/sha256/{sha(b'lonely')[7:9]}") == []


def test_a_blob_that_one_repository_needs_stays_in_all(shop: Shop) -> None:
    shop.push("team/app", "1", [b"shared"])
    shop.push_blob("team/other", b"shared")
    collect(shop)
    assert shop.get(f"/v2/team/other/blobs/{sha(b'shared')}").status == 200


def test_a_removed_manifest_is_collected_with_its_blobs(shop: Shop) -> None:
    digest = shop.push("team/app", "1")
    shop.ask("DELETE", f"/v2/team/app/manifests/{digest}")
    assert set(collect(shop).blobs) == {digest, sha(b"layer"), sha(b"{}")}


def test_a_dry_run_only_tells(shop: Shop) -> None:
    shop.push_blob("team/app", b"lonely")
    digest = shop.push("team/app", "")
    found = collect(shop, untagged=True, dry_run=True)
    assert found.manifests == [("team/app", digest)]
    assert found.blobs == [sha(b"lonely")]
    assert shop.get(f"/v2/team/app/blobs/{sha(b'lonely')}").status == 200
    assert shop.get(f"/v2/team/app/manifests/{digest}").status == 200


@pytest.mark.parametrize("promise", ["push", "head", "mount"])
def test_a_push_that_was_promised_a_blob_can_finish(shop: Shop, promise: str) -> None:
    digest = shop.push_blob("team/app", b"layer")
    shop.push_blob("team/app", b"{}")
    with shop.registry.metadata.change() as database:
        database.execute("UPDATE blobs SET touched = touched - 100000 WHERE digest = ?", (digest,))
    if promise == "push":
        shop.push_blob("team/app", b"layer")
    elif promise == "head":
        assert shop.ask("HEAD", f"/v2/team/app/blobs/{digest}").status == 200
    else:
        url = f"/v2/team/other/blobs/uploads/?mount={digest}&from=team/app"
        assert shop.ask("POST", url).status == 201
    assert collect(shop, LONG) == Collected()
    assert shop.put("team/app", "1", manifest([digest], [b"layer"])).status == 201
    assert shop.get(f"/v2/team/app/blobs/{digest}").body == b"layer"


def test_a_promised_manifest_stays_until_an_index_names_it(shop: Shop) -> None:
    digest = shop.push("team/app", "")
    with shop.registry.metadata.change() as database:
        database.execute("UPDATE manifests SET touched = touched - 100000")
    assert shop.ask("HEAD", f"/v2/team/app/manifests/{digest}").status == 200
    assert collect(shop, LONG, untagged=True).manifests == []


def test_an_image_that_was_removed_and_collected_can_be_pushed_again(shop: Shop) -> None:
    # Hazard A of docker-registry: its cache says "exists", the push succeeds, the pull fails.
    digest = shop.push("team/app", "1")
    shop.ask("DELETE", f"/v2/team/app/manifests/{digest}")
    collect(shop)
    assert shop.ask("HEAD", f"/v2/team/app/blobs/{sha(b'layer')}").status == 404
    assert shop.push("team/app", "1") == digest
    assert shop.get("/v2/team/app/manifests/1").status == 200
    assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").body == b"layer"


def test_a_manifest_whose_blob_was_collected_is_refused(shop: Shop) -> None:
    # Hazard B: the blob is collected between its upload and the manifest, which is accepted.
    digest = shop.push_blob("team/app", b"layer")
    shop.push_blob("team/app", b"{}")
    collect(shop)
    answer = shop.put("team/app", "1", manifest([digest], [b"layer"]))
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_what_is_attached_to_a_tagged_image_stays(shop: Shop) -> None:
    # Hazard C: a signature that was pushed by digest is untagged, and lost.
    image = shop.push("team/app", "1")
    subject = {"mediaType": MEDIA_MANIFEST, "digest": image, "size": 7}
    signature = shop.push("team/app", "", [b"signature"], subject=subject)
    subject = {**subject, "digest": signature}
    seal = shop.push("team/app", "", [b"seal"], subject=subject)
    collect(shop, untagged=True)
    for digest in (signature, seal):
        assert shop.get(f"/v2/team/app/manifests/{digest}").status == 200
    shop.ask("DELETE", "/v2/team/app/manifests/1")
    gone = {digest for _, digest in collect(shop, untagged=True).manifests}
    assert gone == {image, signature, seal}


def test_the_parts_of_a_tagged_index_stay(shop: Shop) -> None:
    child = shop.push("team/app", "")
    lonely = shop.push("team/app", "", [b"lonely"])
    assert shop.put("team/app", "all", index([(child, 7)]), MEDIA_INDEX).status == 201
    assert collect(shop, untagged=True).manifests == [("team/app", lonely)]
    assert shop.get(f"/v2/team/app/manifests/{child}").status == 200
    assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").status == 200


def test_the_layers_of_a_cache_that_buildkit_stores_as_an_index_stay(shop: Shop) -> None:
    layer = {"mediaType": MEDIA_LAYER, "digest": shop.push_blob("team/app", b"layer"), "size": 5}
    kind = "application/vnd.buildkit.cacheconfig.v0"
    records = {"mediaType": kind, "digest": shop.push_blob("team/app", b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [layer, records]}
    content = json.dumps(document).encode()
    assert shop.put("team/app", "cache", content, MEDIA_INDEX).status == 201
    assert collect(shop, untagged=True) == Collected()
    assert shop.get(f"/v2/team/app/blobs/{layer['digest']}").body == b"layer"
    other = {**layer, "digest": sha(b"other")}
    content = json.dumps({**document, "manifests": [other]}).encode()
    refused = shop.put("team/app", "cache", content, MEDIA_INDEX)
    assert (refused.status, refused.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_much_garbage_goes_in_steps(shop: Shop) -> None:
    for number in range(120):
        shop.push_blob("team/app", b"%d" % number)
    assert len(collect(shop).blobs) == 120


def test_a_file_that_cannot_be_removed_is_never_promised(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digests = [shop.push_blob("team/app", b"%d" % number) for number in range(3)]
    shop.push_blob("team/app", b"{}")
    delete = shop.registry.driver.delete

    def fail(*groups: Sequence[str], within: Change) -> None:
        left = paths.blob_folder(Digest(sorted(digests)[1]))
        delete(*([path for path in group if path != left] for group in groups), within=within)
        if any(left in group for group in groups):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(shop.registry.driver, "delete", fail)
    collect(shop)
    assert "cannot be removed" in caplog.text
    for number, digest in enumerate(digests):
        assert shop.get(f"/v2/team/app/blobs/{digest}").status == 404
        body = manifest([digest], [b"%d" % number])
        assert shop.put("team/app", "1", body).status == 400
    assert shop.push("team/app", "1", [b"%d" % number for number in range(3)])


class AnyOrder(RuleBasedStateMachine):
    """Pushes, deletes, collections and restarts in any order: what was acknowledged is there."""

    LAYERS = tuple(b"layer %d" % n for n in range(4))
    NAMES = ("a", "b/c")

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="sampan-gc-")
        self.images: dict[tuple[str, str], list[bytes]] = {}  # (repository, tag) → its layers
        self.digests: dict[tuple[str, str], str] = {}

    @initialize()
    def begin(self) -> None:
        self._open()

    def _open(self) -> None:
        self.registry = Registry.on_filesystem(self.root)
        self.life = serving(self.registry)
        self.shop = self.life.__enter__()

    def _close(self) -> None:
        self.life.__exit__(None, None, None)
        self.registry.close()

    @rule(
        name=st.sampled_from(NAMES),
        tag=st.sampled_from(["1", "2"]),
        layers=st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3, unique=True),
        collect_between=st.booleans(),
        delay=st.sampled_from([NOW, LONG]),
    )
    def push(
        self, name: str, tag: str, layers: list[bytes], collect_between: bool, delay: float
    ) -> None:
        digests = [self.shop.push_blob(name, layer) for layer in layers]
        self.shop.push_blob(name, b"{}")
        if collect_between:
            collect(self.shop, delay)
        body = manifest(digests, layers)
        answer = self.shop.put(name, tag, body)
        if answer.status == 201:
            self.images[name, tag] = layers
            self.digests[name, tag] = sha(body)
        else:  # only a collection without a delay may spoil a push, and then it says so
            assert collect_between
            assert delay == NOW
            assert answer.code == "MANIFEST_BLOB_UNKNOWN"

    @rule(name=st.sampled_from(NAMES), tag=st.sampled_from(["1", "2"]), whole=st.booleans())
    def delete(self, name: str, tag: str, whole: bool) -> None:
        known = self.digests.get((name, tag))
        reference = known if whole and known else tag
        answer = self.shop.ask("DELETE", f"/v2/{name}/manifests/{reference}")
        assert answer.status == (202 if known else 404)
        for key, digest in list(self.digests.items()):
            if key == (name, tag) or (whole and key[0] == name and digest == known):
                del self.digests[key], self.images[key]

    @rule(delay=st.sampled_from([NOW, LONG]), untagged=st.booleans())
    def collect(self, delay: float, untagged: bool) -> None:
        collect(self.shop, delay, untagged=untagged)

    @rule(lose_database=st.booleans())
    def restart(self, lose_database: bool) -> None:
        self._close()
        if lose_database:
            shutil.rmtree(Path(self.root, "sampan"))
        self._open()

    @invariant()
    def every_tag_resolves_and_every_layer_is_whole(self) -> None:
        for (name, tag), layers in self.images.items():
            answer = self.shop.get(f"/v2/{name}/manifests/{tag}")
            assert sha(answer.body) == self.digests[name, tag]
            for layer in layers:
                assert self.shop.get(f"/v2/{name}/blobs/{sha(layer)}").body == layer
        for name in {name for name, _ in self.images}:
            assert self.shop.tags(name) == sorted(t for n, t in self.images if n == name)

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.root)


AnyOrder.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase


# --- a clock that jumps --------------------------------------------------------------------------

DAY = 24 * 3600.0


def test_a_clock_that_jumps_ahead_costs_no_image_and_no_push_ends_wrongly(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shop.push("a", "1", [b"kept"])
    half = shop.push_blob("a", b"layer")
    shop.push_blob("a", b"{}")
    upload = shop.begin("a")
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + 30 * DAY)
    shop.registry.collector.collect(DAY, untagged=True)
    assert shop.get("/v2/a/manifests/1").header("docker-content-digest") == kept
    assert shop.get(f"/v2/a/blobs/{sha(b'kept')}").body == b"kept"
    assert shop.put("a", "2", manifest([half], [b"layer"])).status == 201  # it was promised
    assert shop.get(f"/v2/a/blobs/{half}").body == b"layer"
    assert shop.ask("PUT", f"{upload}?digest={sha(b'late')}", b"late").status == 201


def test_a_clock_that_jumps_back_keeps_what_is_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.push("a", "1", [b"kept"])
    half = shop.push_blob("a", b"layer")
    upload = shop.begin("a")
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 30 * DAY)
    shop.registry.collector.collect(DAY, untagged=True)
    assert shop.registry.purge_uploads(time.time() - 7 * DAY) == []
    assert shop.ask("HEAD", f"/v2/a/blobs/{half}").status == 200
    assert shop.put("a", "2", manifest([half], [b"layer"])).status == 201
    assert shop.ask("PUT", f"{upload}?digest={sha(b'late')}", b"late").status == 201
    assert shop.tags("a") == ["1", "2"]
    monkeypatch.undo()
    shop.registry.collector.collect(DAY, untagged=True)
    assert shop.tags("a") == ["1", "2"]
