"""Uploads that nobody has finished count: nobody fills a disk by beginning what never ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.content import unfinished
from sampan.registry.content.quotas import Quota, Use
from sampan.registry.drivers.driver import ANYHOW
from sampan.registry.errors import RegistryError
from sampan.registry.patterns import Pattern
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from tests.own_registry import Shop, manifest, serving, sha

QUOTAS = [
    Quota(Pattern("team/*"), 1000),
    Quota(Pattern("crew/**"), 1000, together=True),
    Quota(Pattern("few/*"), uploads=2),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def shop(root: Path) -> Iterator[Shop]:
    yield from opened(root)


def opened(root: Path) -> Iterator[Shop]:
    with Registry.on_filesystem(str(root)) as registry, serving(registry) as found:
        registry.quotas.define(QUOTAS)
        yield found


def key(place: str) -> str:
    return place.rpartition("/")[2]


def leave(shop: Shop, name: str, size: int) -> str:
    """Send some bytes of an upload and not the rest."""
    place = shop.begin(name)
    assert shop.ask("PATCH", place, [b"x" * size]).status == 202
    return place


def use(shop: Shop, owner: str) -> Use:
    return next(row for row in shop.registry.quotas.used() if row.name == owner)


def unfinished_of(shop: Shop, name: str) -> int:
    row = shop.registry.metadata.row(
        "SELECT coalesce(sum(size), 0) FROM uploads WHERE repository = ?", name
    )
    assert row
    return int(row[0])


@pytest.mark.parametrize("names", [("team/a", "team/a"), ("crew/a", "crew/deep/b")])
@pytest.mark.parametrize("body", [b"y" * 401, [b"y" * 200, b"y" * 201]], ids=["length", "stream"])
def test_what_uploads_have_is_taken(shop: Shop, names: tuple[str, str], body: bytes) -> None:
    place = leave(shop, names[0], 600)
    other = shop.begin(names[1])
    answer = shop.ask("PATCH", other, body)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "600 bytes are in uploads that are not finished" in answer.json["errors"][0]["message"]
    assert shop.get(other).status == 404
    assert shop.ask("PATCH", shop.begin(names[1]), b"y" * 400).status == 202
    content = b"x" * 600
    assert shop.ask("PUT", f"{place}?digest={sha(content)}").status == 201


def test_a_full_repository_cannot_begin_more(shop: Shop) -> None:
    leave(shop, "team/a", 1000)
    answer = shop.ask("POST", "/v2/team/a/blobs/uploads/")
    assert (answer.status, answer.code) == (403, "DENIED")
    assert shop.ask("POST", "/v2/team/b/blobs/uploads/").status == 202


def test_mounts_and_manifests_count_them_too(shop: Shop) -> None:
    layer, config = b"x" * 300, b"{}"
    for blob in (layer, config):
        shop.push_blob("team/a", blob)
    shop.push_blob("other/a", b"z" * 300)
    leave(shop, "team/a", 600)
    url = f"/v2/team/a/blobs/uploads/?mount={sha(b'z' * 300)}&from=other/a"
    assert shop.ask("POST", url).status == 403
    assert shop.put("team/a", "1", manifest([sha(layer)], [layer], config)).status == 403


def test_what_a_request_announces_is_set_aside_and_given_back(shop: Shop) -> None:
    first, second = key(shop.begin("team/a")), key(shop.begin("team/a"))
    uploads = shop.registry.uploads
    with uploads.receive("team/a", first, more=600):
        with pytest.raises(RegistryError, match="600 bytes are in uploads"):
            uploads.receive("team/a", second, more=401)
        uploads.receive("team/a", second, more=400).close()
    uploads.receive("team/a", second, more=1000).close()
    assert unfinished_of(shop, "team/a") == 0


def test_streams_take_steps_and_give_back_what_is_left(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "STEP", 300)
    uploads = shop.registry.uploads
    first, second = key(shop.begin("team/a")), key(shop.begin("team/a"))
    with uploads.receive("team/a", first) as receiver:
        assert unfinished_of(shop, "team/a") == 0
        receiver.write(b"x" * 100)
        assert unfinished_of(shop, "team/a") == 400
        with uploads.receive("team/a", second) as other:
            other.write(b"y" * 600)  # all that is left: less than a step is enough
            with pytest.raises(RegistryError):
                other.write(b"y")
        assert unfinished_of(shop, "team/a") == 1000
        receiver.write(b"x" * 300)
        with pytest.raises(RegistryError):
            receiver.write(b"x")
    assert unfinished_of(shop, "team/a") == 1000
    uploads.cancel("team/a", second)
    assert unfinished_of(shop, "team/a") == 400


@pytest.mark.parametrize("end", ["finish", "cancel", "wrong digest", "purge", "no such thing"])
def test_an_upload_that_ends_counts_no_longer(shop: Shop, end: str) -> None:
    place = leave(shop, "team/a", 600)
    if end == "finish":
        assert shop.ask("PUT", f"{place}?digest={sha(b'x' * 600)}").status == 201
    elif end == "cancel":
        assert shop.ask("DELETE", place).status == 204
    elif end == "wrong digest":
        assert shop.ask("PUT", f"{place}?digest={sha(b'?')}").status == 400
    elif end == "purge":
        assert shop.registry.purge_uploads(time.time() + 60) == [key(place)]
    else:
        assert shop.ask("PUT", f"{place}?digest=nonsense").status == 400
    assert unfinished_of(shop, "team/a") == (600 if end == "no such thing" else 0)
    if end == "finish":
        assert use(shop, "team/a").used == 600


def test_content_that_is_there_leaves_nothing_when_it_breaks_off(shop: Shop) -> None:
    content = b"x" * 800
    shop.push_blob("team/a", content)
    for _ in range(3):
        place = shop.begin("team/a")
        shop.ask("PUT", f"{place}?digest={sha(content)}", [content[:500]], hang_up=True)
        assert shop.get(place).status == 404
    place = shop.begin("team/a")
    assert shop.ask("PUT", f"{place}?digest={sha(content)}", [content]).status == 201
    assert shop.registry.driver.list(paths.uploads("team/a")) == []
    assert unfinished_of(shop, "team/a") == 0


def test_a_broken_connection_leaves_an_upload_that_counts_and_can_go_on(shop: Shop) -> None:
    place = shop.begin("team/a")
    shop.ask("PATCH", place, [b"x" * 700], {"Content-Length": "900"}, hang_up=True)
    assert shop.get(place).header("range") == "0-699"
    assert unfinished_of(shop, "team/a") == 700
    assert shop.ask("PATCH", place, b"x" * 300).status == 202
    assert unfinished_of(shop, "team/a") == 1000


def test_an_upload_that_is_left_alone_ends_when_its_room_is_needed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = leave(shop, "team/a", 300), leave(shop, "team/a", 300)
    assert shop.ask("PATCH", shop.begin("team/a"), b"y" * 500).status == 403
    monkeypatch.setattr(unfinished, "IDLE_SECONDS", -1.0)
    busy = shop.registry.uploads.receive("team/b", key(leave(shop, "team/b", 300)))
    assert shop.ask("PATCH", shop.begin("team/a"), b"y" * 300).status == 202  # there is room
    assert shop.get(old).status == 204
    assert shop.ask("PATCH", shop.begin("team/a"), b"y" * 300).status == 202
    assert (shop.get(old).status, shop.get(young).status) == (404, 204)
    assert shop.ask("PATCH", shop.begin("team/b"), b"y" * 800).status == 403  # somebody is at it
    busy.close()
    assert shop.ask("PATCH", shop.begin("team/b"), b"y" * 800).status == 202


def test_a_row_without_an_upload_gives_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    place = leave(shop, "team/a", 900)
    shop.registry.driver.delete([paths.upload("team/a", key(place))], within=ANYHOW)
    monkeypatch.setattr(unfinished, "IDLE_SECONDS", -1.0)
    shop.push_blob("team/a", b"y" * 1000)


def test_uploads_at_a_time_have_an_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [shop.begin("few/a") for _ in range(2)]
    answer = shop.ask("POST", "/v2/few/a/blobs/uploads/")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.header("retry-after") == "60"
    assert answer.json["errors"][0]["message"] == (
        "the quota of few/* is 2 uploads at a time, and 2 are not finished"
    )
    shop.begin("few/b")
    shop.ask("DELETE", places[0])
    places[0] = shop.begin("few/a")
    monkeypatch.setattr(unfinished, "IDLE_SECONDS", -1.0)
    shop.begin("few/a")
    assert shop.get(places[1]).status == 404
    shop.push("few/a", "1")
    assert use(shop, "few/a").used_uploads == 1


def test_a_start_counts_what_it_finds(root: Path) -> None:
    for shop in opened(root):
        kept, gone = leave(shop, "team/a", 300), leave(shop, "team/a", 400)
        with shop.registry.metadata.change() as database:  # as a kill in a request leaves it
            database.execute("UPDATE uploads SET size = 900")
    folder = root / paths.upload("team/a", key(gone))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    foreign = root / paths.upload("team/b", "11111111-1111-4111-8111-111111111111")
    foreign.mkdir(parents=True)  # as docker-registry has begun it
    (foreign / "startedat").write_text("2026-07-01T00:00:00Z")
    (foreign / "data").write_bytes(b"z" * 700)
    for shop in opened(root):
        assert unfinished_of(shop, "team/a") == 300
        assert unfinished_of(shop, "team/b") == 700
        assert shop.ask("PATCH", shop.begin("team/b"), b"y" * 400).status == 403
        assert shop.ask("PUT", f"{kept}?digest={sha(b'x' * 300)}").status == 201


def test_a_disk_that_is_full_leaves_no_row(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shop.registry.driver, "write", full)
    assert shop.ask("POST", "/v2/few/a/blobs/uploads/").status == 507
    assert shop.registry.metadata.rows("SELECT * FROM uploads") == []


def test_without_quotas_nothing_is_counted(shop: Shop) -> None:
    leave(shop, "other/a", 5000)
    with shop.registry.metadata.change():  # a change at the same time would wait for ever
        with shop.registry.uploads.receive("other/a", key(leave(shop, "other/a", 10))) as receiver:
            receiver.write(b"x")
    assert shop.registry.metadata.rows("SELECT * FROM uploads") == []
    assert Digest(shop.push_blob("other/a", b"x"))
