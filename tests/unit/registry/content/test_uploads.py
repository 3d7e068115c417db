"""Uploads that nobody goes on with, and many at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.content import uploads
from sampan.registry.drivers.driver import ANYHOW
from tests.own_registry import Answer, Shop, sha

DAY = 86400.0


def _age(shop: Shop, place: str, note: bytes | None) -> None:
    """Let an upload have another note of its beginning, or none."""
    upload = place.rpartition("/")[2]
    path = f"{paths.upload('team/app', upload)}/startedat"
    shop.registry.driver.delete([path], within=ANYHOW)
    if note is not None:
        shop.registry.driver.write([(path, note)])


def test_old_uploads_end_and_young_ones_do_not(shop: Shop) -> None:
    old, young = shop.begin("team/app"), shop.begin("team/app")
    shop.ask("PATCH", old, b"content")
    _age(shop, old, b"2020-01-01T00:00:00Z")
    before = time.time() - DAY
    assert shop.registry.purge_uploads(before, dry_run=True) == [old.rpartition("/")[2]]
    assert shop.get(old).status == 204
    assert shop.registry.purge_uploads(before) == [old.rpartition("/")[2]]
    assert shop.get(old).status == 404
    assert shop.get(young).status == 204
    assert shop.registry.purge_uploads(before) == []


@pytest.mark.parametrize("note", [None, b"", b"yesterday"])
def test_without_a_note_the_data_tells_the_age(shop: Shop, note: bytes | None) -> None:
    place = shop.begin("team/app")
    shop.ask("PATCH", place, b"content")
    _age(shop, place, note)
    assert shop.registry.purge_uploads(time.time() - DAY) == []
    assert shop.registry.purge_uploads(time.time() + DAY) == [place.rpartition("/")[2]]


def test_an_upload_that_somebody_writes_to_is_left_alone(shop: Shop) -> None:
    place = shop.begin("team/app")
    with shop.registry.uploads.receive("team/app", place.rpartition("/")[2]):
        assert shop.registry.purge_uploads(time.time() + DAY) == []
    assert shop.get(place).status == 204


def test_uploads_of_repositories_that_are_none_yet_end_too(shop: Shop) -> None:
    shop.begin("never/pushed")
    assert len(shop.registry.purge_uploads(time.time() + DAY)) == 1


def test_many_push_the_same_blob_at_once(disk: Shop, tmp_path: Path) -> None:
    # docker-registry 2.8 answers some of them "blob unknown": its links are written in place.
    content = b"shared" * 1000
    answers: list[Answer] = []

    def push(number: int) -> None:
        for _ in range(5):
            place = disk.begin(f"app{number % 2}")
            answer = disk.ask("PUT", f"{place}?digest={sha(content)}", content)
            answers.append(answer)
            answers.append(disk.get(f"/v2/app{number % 2}/blobs/{sha(content)}"))

    threads = [threading.Thread(target=push, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200, 201}
    assert len(answers) == 80
    assert all(answer.body == content for answer in answers if answer.status == 200)
    assert len(list((tmp_path / "data" / paths.BLOBS).rglob("data"))) == 1
    assert list((tmp_path / "data" / paths.REPOSITORIES).rglob("_uploads/*")) == []


def test_memory_knows_few_of_many_uploads_and_each_goes_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "REMEMBERED", 2)
    places = [shop.begin("team/app", "?digest-algorithm=sha512") for _ in range(6)]
    for place in places:
        assert shop.ask("PATCH", place, b"first").status == 202
    assert len(shop.registry.uploads._sessions) == 2
    digest = sha(b"firstlast", "sha512")
    for place in places:
        assert shop.ask("PUT", f"{place}?digest={digest}", b"last").status == 201
    assert shop.registry.uploads._sessions == {}
