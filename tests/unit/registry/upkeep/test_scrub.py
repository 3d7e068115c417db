"""Scrubbing: what is damaged is found, is nobody's any more, and is mended by a push."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.registry import Registry
from sampan.registry.upkeep.scrub import QUARANTINE, Finding, Scrubbed
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_MANIFEST
from tests.own_registry import Shop, manifest, serving, sha

LAYER = sha(b"layer")


def file_of(disk: Shop, digest: str) -> Path:
    driver = disk.registry.driver
    return Path(driver.root, paths.blob(Digest(digest)))  # type: ignore[attr-defined]


def damage(disk: Shop, digest: str, content: bytes = b"rotten") -> None:
    """Change a file without its length, as a disk does."""
    path = file_of(disk, digest)
    size = path.stat().st_size
    path.write_bytes((content * size)[:size])


def scrub(
    disk: Shop, rate: float = 0, report_only: bool = False, before: float = 0
) -> tuple[list[Finding], Scrubbed]:
    found: list[Finding] = []
    before = before or time.time()
    done = disk.registry.scrubber.scrub(rate, before, found.append, report_only)
    return found, done


def test_what_is_whole_is_left_alone(disk: Shop) -> None:
    disk.push("team/app", "1")
    found, done = scrub(disk, before=time.time())
    assert found == []
    assert (done.count, done.damaged) == (3, 0)
    assert scrub(disk, before=time.time() - 60)[1].count == 0  # it was read a moment ago


def test_a_damaged_blob_is_unknown_until_somebody_pushes_it_again(disk: Shop) -> None:
    for name in ("team/app", "team/other"):
        disk.push(name, "1")
    damage(disk, LAYER)
    found, done = scrub(disk)
    assert [(f.digest, f.repositories, f.quarantined) for f in found] == [
        (LAYER, ("team/app", "team/other"), True)
    ]
    assert "its content is sha256:" in found[0].reason
    assert done.damaged == 1
    for method in ("GET", "HEAD"):
        assert disk.ask(method, f"/v2/team/other/blobs/{LAYER}").status == 404
    kept = disk.registry.driver.read(f"{QUARANTINE}/sha256/{LAYER[7:]}")
    assert kept == b"rotte"
    body = manifest([LAYER], [b"layer"])
    assert disk.put("team/app", "2", body).code == "MANIFEST_BLOB_UNKNOWN"
    url = f"/v2/new/app/blobs/uploads/?mount={LAYER}&from=team/app"
    assert disk.ask("POST", url).status == 202
    disk.push_blob("team/app", b"layer")
    for name in ("team/app", "team/other"):
        assert disk.get(f"/v2/{name}/blobs/{LAYER}").body == b"layer"
    assert scrub(disk)[0] == []


@pytest.mark.parametrize("how", ["short", "missing"])
def test_a_file_of_another_length_is_damaged(disk: Shop, how: str) -> None:
    disk.push("team/app", "1")
    path = file_of(disk, LAYER)
    if how == "short":
        path.write_bytes(b"lay")
    else:
        path.unlink()
    found, _ = scrub(disk)
    assert (
        found[0].reason
        == {
            "short": "it has 3 bytes instead of 5",
            "missing": "its file is missing",
        }[how]
    )
    assert disk.ask("HEAD", f"/v2/team/app/blobs/{LAYER}").status == 404
    disk.push_blob("team/app", b"layer")
    assert disk.get(f"/v2/team/app/blobs/{LAYER}").body == b"layer"


def test_a_damaged_manifest_is_unknown_and_its_repository_loses_nothing(disk: Shop) -> None:
    digest = disk.push("team/app", "1")
    damage(disk, digest)
    (found,), _ = scrub(disk)
    assert (found.digest, found.repositories) == (digest, ("team/app",))
    for reference in ("1", digest):
        for method in ("GET", "HEAD"):
            assert disk.ask(method, f"/v2/team/app/manifests/{reference}").status == 404
    disk.registry.collector.collect(-1, untagged=True)
    assert disk.get(f"/v2/team/app/blobs/{LAYER}").status == 200
    disk.put("team/app", "1", manifest([LAYER], [b"layer"]))
    assert sha(disk.get("/v2/team/app/manifests/1").body) == digest


def test_a_damaged_manifest_stays_unknown_after_a_restart(tmp_path: Path) -> None:
    root = str(tmp_path / "data")
    with Registry.on_filesystem(root) as registry, serving(registry) as disk:
        digest = disk.push("team/app", "1", annotations={"note": "right"})
        path = file_of(disk, digest)
        path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))  # still a manifest
        scrub(disk)
    with Registry.on_filesystem(root) as registry, serving(registry) as disk:
        assert disk.get("/v2/team/app/manifests/1").status == 404
        registry.collector.collect(-1, untagged=True)
        assert disk.get(f"/v2/team/app/blobs/{LAYER}").status == 200


def test_a_report_changes_nothing(disk: Shop) -> None:
    digest = disk.push("team/app", "1")
    for name in (LAYER, digest):
        damage(disk, name)
    found, _ = scrub(disk, report_only=True)
    assert {f.digest: f.quarantined for f in found} == {LAYER: False, digest: False}
    assert disk.ask("HEAD", f"/v2/team/app/blobs/{LAYER}").status == 200


def test_a_disk_that_cannot_be_read_is_told_and_nothing_else(
    disk: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.push_blob("team/app", b"layer")

    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk.registry.driver, "open", fail)
    (found,), done = scrub(disk)
    assert (found.reason, found.quarantined) == ("it cannot be read: Input/output error", False)
    assert done.count == 1
    monkeypatch.undo()
    assert disk.get(f"/v2/team/app/blobs/{LAYER}").body == b"layer"


def test_what_is_mended_while_it_is_looked_at_stays(
    disk: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.push("team/app", "1")
    damage(disk, LAYER)
    look = disk.registry.scrubber._look

    def mend(digest: Digest, *more: object) -> str:
        reason = look(digest, *more)  # type: ignore[arg-type]
        if digest == LAYER:
            file_of(disk, LAYER).write_bytes(b"layer")
        return reason if digest != LAYER else "it was read before it was mended"

    monkeypatch.setattr(disk.registry.scrubber, "_look", mend)
    assert scrub(disk)[0] == []
    assert disk.get(f"/v2/team/app/blobs/{LAYER}").body == b"layer"


def test_a_bad_read_is_repeated_before_it_counts(
    disk: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.push_blob("team/app", b"layer")
    look, reads = disk.registry.scrubber._look, []

    def once(digest: Digest, *more: object) -> str:
        reads.append(digest)
        return "bad memory" if len(reads) == 1 else look(digest, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(disk.registry.scrubber, "_look", once)
    assert scrub(disk)[0] == []
    assert len(reads) == 2


def test_a_rate_is_kept_and_the_end_does_not_wait_for_it(disk: Shop) -> None:
    for number in range(3):
        disk.push_blob("team/app", bytes([number]) * (1 << 20))
    scrubber = disk.registry.scrubber
    thread = threading.Thread(target=lambda: scrub(disk, rate=1000))  # an hour
    thread.start()
    scrubber.stop.set()
    thread.join(30)
    assert not thread.is_alive()
    scrubber.stop.clear()
    waits: list[float] = []
    scrubber.stop.wait = lambda timeout=None: bool(waits.append(timeout or 0))  # type: ignore
    scrub(disk, rate=1 << 20)
    assert sum(waits) > 2  # three seconds' worth, less what the reading took


def test_the_oldest_is_read_first_across_restarts(tmp_path: Path) -> None:
    root = str(tmp_path / "data")
    with Registry.on_filesystem(root) as registry, serving(registry) as disk:
        disk.push("team/app", "1")
        assert scrub(disk)[1].count == 3
    with Registry.on_filesystem(root) as registry, serving(registry) as disk:
        middle = time.time()
        disk.push_blob("team/app", b"new")
        assert scrub(disk, before=middle - 3600)[1].count == 1


def test_signatures_of_damaged_images_are_kept(disk: Shop) -> None:
    digest = disk.push("team/app", "1")
    subject = {"mediaType": MEDIA_MANIFEST, "digest": digest, "size": 7}
    disk.push("team/app", "", [b"signature"], subject=subject)
    damage(disk, digest)
    scrub(disk)
    disk.registry.collector.collect(-1, untagged=True)
    answer = disk.get(f"/v2/team/app/referrers/{digest}")
    assert len(answer.json["manifests"]) == 1
