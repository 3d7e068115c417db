"""A file that is not what its row says: told once, given to nobody, mended by whoever pushes it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.content import damage
from sampan.registry.registry import Registry
from sampan.registry.upkeep.scrub import QUARANTINE
from sampan.spec.digest import Digest
from tests.own_registry import Shop, manifest, serving, sha

LAYER = sha(b"layer")
BLOB = f"/v2/team/app/blobs/{LAYER}"


def file_of(disk: Shop, digest: str) -> Path:
    driver = disk.registry.driver
    return Path(driver.root, paths.blob(Digest(digest)))  # type: ignore[attr-defined]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.ERROR]


def test_a_torn_blob_is_told_once_with_its_names(
    disk: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    disk.push("team/app", "1")
    file_of(disk, LAYER).write_bytes(b"lay")
    for _ in range(3):
        assert disk.get(BLOB).status == 503
    assert told(caplog) == [f"{LAYER} of team/app is damaged: its file has 3 bytes instead of 5"]
    file_of(disk, LAYER).write_bytes(b"")
    assert disk.get(BLOB).status == 503
    file_of(disk, LAYER).unlink()
    assert disk.get(BLOB).status == 404
    assert [line.partition("its file ")[2] for line in told(caplog)[1:]] == [
        "has 0 bytes instead of 5",
        "is missing",
    ]


def test_a_torn_manifest_is_told_too(disk: Shop, caplog: pytest.LogCaptureFixture) -> None:
    digest = disk.push("team/app", "1")
    whole = file_of(disk, digest).read_bytes()
    file_of(disk, digest).write_bytes(whole[:-1])
    for _ in range(2):
        assert disk.get("/v2/team/app/manifests/1").status == 503
    assert len(told(caplog)) == 1
    assert f"{digest} of team/app is damaged" in told(caplog)[0]
    assert disk.put("team/app", "1", whole).status == 201
    assert disk.get("/v2/team/app/manifests/1").body == whole


@pytest.mark.parametrize("content", [b"lay", b"layer and more", None])
def test_who_asks_before_a_push_is_told_to_push_it(disk: Shop, content: bytes | None) -> None:
    disk.push("team/app", "1")
    file_of(disk, LAYER).unlink()
    if content is not None:
        file_of(disk, LAYER).write_bytes(content)
    assert disk.ask("HEAD", BLOB).status == 404
    place = f"/v2/team/other/blobs/uploads/?mount={LAYER}&from=team/app"
    assert disk.ask("POST", place).status == 202
    disk.push_blob("team/other", b"layer")
    assert disk.get(BLOB).body == b"layer"  # for all who have it
    assert disk.put("team/other", "1", manifest([LAYER], [b"layer"])).code == (
        "MANIFEST_BLOB_UNKNOWN"  # its configuration is not there
    )


def test_a_push_mends_what_has_other_bytes(disk: Shop) -> None:
    disk.push("team/app", "1")
    file_of(disk, LAYER).write_bytes(b"LAYER")
    disk.push_blob("team/app", b"layer")
    assert disk.get(BLOB).body == b"layer"


def test_what_is_damaged_again_is_told_again(disk: Shop, caplog: pytest.LogCaptureFixture) -> None:
    disk.push("team/app", "1")
    for _ in range(2):
        file_of(disk, LAYER).write_bytes(b"lay")
        assert disk.get(BLOB).status == 503
        disk.push_blob("team/app", b"layer")
    assert len(told(caplog)) == 2


def test_what_is_remembered_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "REMEMBERED", 2)
    found = damage.Damage()
    for number in (1, 2, 3, 3, 1):
        found.found("a", f"sha256:{number}", None, 5)
    assert len(told(caplog)) == 4


def test_a_start_reads_what_has_another_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Registry.on_filesystem(str(tmp_path)) as registry, serving(registry) as shop:
        shop.push("team/app", "1")
        torn = file_of(shop, LAYER)
    torn.write_bytes(b"lay")
    for _ in range(2):
        with Registry.on_filesystem(str(tmp_path)) as registry, serving(registry) as shop:
            assert shop.ask("HEAD", BLOB).status == 404
            assert shop.tags("team/app") == ["1"]
            registry.collector.collect(-1, untagged=True)
    assert any("its content is sha256:" in line for line in told(caplog))
    assert (tmp_path / QUARANTINE / "sha256" / LAYER[7:]).read_bytes() == b"lay"
    with Registry.on_filesystem(str(tmp_path)) as registry, serving(registry) as shop:
        shop.push_blob("team/app", b"layer")
        assert shop.get(BLOB).body == b"layer"
