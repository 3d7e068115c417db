"""A registry knows whether it is alone on a storage."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sampan.registry.content import manifests
from sampan.registry.drivers.driver import Written
from sampan.registry.drivers.inmemory import InMemoryDriver
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.registry import Registry
from sampan.registry.upkeep import presence
from sampan.registry.upkeep.presence import Presence, own_name
from sampan.spec.digest import Digest
from tests.memory_bucket import MemoryBucket
from tests.own_registry import manifest, serving, sha


def test_those_who_live_are_known_to_each_other() -> None:
    driver = InMemoryDriver()
    with Presence(driver, "first") as first:
        first.demand_alone()
        with Presence(driver, "second") as second:
            assert first.others() == [second.name]
            with pytest.raises(OSError, match=second.name):
                first.demand_alone()
        first.demand_alone()
    assert driver.list(presence.FOLDER) == []


def test_those_who_were_killed_count_as_dead_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = InMemoryDriver()
    driver.write([(f"{presence.FOLDER}/killed", b"")])
    with Presence(driver, "me") as found:
        assert found.others() == ["killed"]
        monkeypatch.setattr(presence, "DEAD_SECONDS", -1.0)
        assert found.others() == []
        assert driver.list(presence.FOLDER) == [found.name]


def test_nobody_counts_as_dead_because_the_storages_clock_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = InMemoryDriver()
    true = time.time
    with Presence(driver, "first") as first, Presence(driver, "second") as second:
        monkeypatch.setattr(time, "time", lambda: true() + 3600)  # that of the storage
        assert first.others() == [second.name]
        second._beat()
        assert first.others() == [second.name]


def test_a_name_is_kept(tmp_path: Path) -> None:
    kept = own_name(tmp_path / "name")
    assert own_name(tmp_path / "name") == kept
    (tmp_path / "name").write_text("../../docker")
    assert own_name(tmp_path / "name") not in (kept, "../../docker")


def test_a_beat_that_fails_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = InMemoryDriver()
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.001)
    with Presence(driver, "me") as found:
        with monkeypatch.context() as patched:
            patched.setattr(found, "_beat", _fail)
            while "not told of this one" not in caplog.text:
                pass
    assert driver.list(presence.FOLDER) == []


def _fail() -> None:
    raise OSError("away")


def test_one_that_was_taken_for_dead_acknowledges_nothing_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGSTOP for longer than others wait for a beat, at the two points that matter."""
    bucket = MemoryBucket(chunk=1 << 20)

    def opened(name: str) -> Registry:
        (tmp_path / name).mkdir()
        return Registry.on_objects(ObjectDriver(bucket), tmp_path / name)

    with opened("one") as one, serving(one) as stopped, opened("two") as two:
        monkeypatch.setattr(presence, "DEAD_SECONDS", -1)
        monkeypatch.setattr(manifests, "LATE_SECONDS", -1)

        def collect() -> None:
            for digest in (sha(b"layer"), sha(b"{}")):
                two.beside.find_blob("a", Digest(digest))
            two.collector.collect(-1)

        body = manifest([sha(b"layer")], [b"layer"])
        for content in (b"layer", b"{}"):
            stopped.push_blob("a", content)
        collect()
        assert stopped.put("a", "1", body).code == "MANIFEST_BLOB_UNKNOWN"
        for content in (b"layer", b"{}"):
            stopped.push_blob("a", content)
        publish = Written.publish

        def slow(staged: Written) -> None:
            collect()  # the parts are looked at, the manifest is not there
            publish(staged)

        with monkeypatch.context() as patched:
            patched.setattr(Written, "publish", slow)
            assert stopped.put("a", "1", body).code == "MANIFEST_BLOB_UNKNOWN"
        stopped.push("a", "1")
        assert stopped.get(f"/v2/a/blobs/{sha(b'layer')}").body == b"layer"
