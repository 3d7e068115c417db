"""What a registry knows, in SQLite and in PostgreSQL: one suite for both, and what only one has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from sampan.errors import Conflict, InvalidArgument, Unavailable
from sampan.http.urls import Url
from sampan.registry.content.quotas import Quota, Use
from sampan.registry.database.metadata import DatabaseAway, Metadata
from sampan.registry.database.postgresql import PostgresMetadata, translated
from sampan.registry.database.sqlite import SqliteMetadata
from sampan.registry.drivers.driver import Change
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.patterns import Pattern
from sampan.registry.proxy.eviction import Eviction
from sampan.registry.proxy.figures import Figures
from sampan.registry.proxy.upstreams import Places, Upstream
from sampan.registry.registry import Registry, Shared
from sampan.registry.upkeep.retention import Rule
from sampan.spec.image import MEDIA_INDEX, MEDIA_MANIFEST
from tests.own_registry import Shop, index, manifest, serving, sha
from tests.postgres import Postgres, postgres
from tests.unit.registry.upkeep.test_gc import AnyOrder

BOTH = ["sqlite", "postgresql"]


@pytest.fixture(params=BOTH)
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Metadata]:
    found: Metadata
    if request.param == "sqlite":
        found = SqliteMetadata(tmp_path / "rows.db")
    else:
        server: Postgres = request.getfixturevalue("server")
        found = PostgresMetadata(server.database(), "storage")
    found.ready()
    yield found
    found.close()


class Port:
    """Opens a registry on a folder, as often as one likes."""

    def __init__(self, root: Path, address: str) -> None:
        self.root = root
        self.address = address
        self._life = ExitStack()

    def open(self, worker: str = "one") -> Shop:
        shared = Shared(self.address, worker) if self.address else None
        registry = Registry.on_filesystem(str(self.root), shared=shared)
        self._life.callback(registry.close)
        return self._life.enter_context(serving(registry))

    def close(self) -> None:
        self._life.close()


@pytest.fixture(params=BOTH)
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Port]:
    address = ""
    if request.param == "postgresql":
        address = request.getfixturevalue("server").database()
    found = Port(tmp_path / "data", address)
    yield found
    found.close()


# --- the contract


def test_a_change_is_seen_when_it_has_ended(rows: Metadata) -> None:
    with rows.change() as database:
        database.execute("INSERT INTO repositories VALUES (?)", ("team/app",))
        with rows.change() as inner:  # a change within a change is the same one
            inner.execute("INSERT INTO repositories VALUES (?)", ("team/b",))
        assert rows.rows("SELECT name FROM repositories") == []
    assert rows.rows("SELECT name FROM repositories ORDER BY name") == [("team/app",), ("team/b",)]
    assert rows.row("SELECT name FROM repositories WHERE name = ?", "none") is None


def test_a_change_that_fails_is_undone(rows: Metadata) -> None:
    with pytest.raises(ZeroDivisionError), rows.change() as database:
        database.execute("INSERT INTO repositories VALUES (?)", ("team/app",))
        raise ZeroDivisionError
    assert rows.rows("SELECT * FROM repositories") == []
    with rows.change() as database:
        database.execute("INSERT INTO repositories VALUES (?)", ("team/app",))
    assert rows.row("SELECT count(*) FROM repositories") == (1,)


def test_a_cursor_counts_and_is_read_in_every_way(rows: Metadata) -> None:
    with rows.change() as database:
        database.executemany(
            "INSERT INTO blobs VALUES (?, ?, ?)", {(f"sha256:{n}", n, 0.5) for n in range(5)}
        )
        database.executemany("DELETE FROM blobs WHERE digest = ?", [])
        gone = database.execute("DELETE FROM blobs WHERE size >= ?", (3,))
        assert gone.rowcount == 2
        found = database.execute("SELECT size, touched FROM blobs ORDER BY size")
        assert found.fetchone() == (0, 0.5)
        assert found.fetchall() == [(1, 0.5), (2, 0.5)]
        query = "SELECT size FROM blobs WHERE size > ?2 AND digest != ?1 AND size > ?2"
        assert list(database.execute(query, ("x", 1))) == [(2,)]


def test_names_are_in_the_order_of_bytes(rows: Metadata) -> None:
    names = ["b", "a/b", "a-b", "a", "a_b", "B", "a.b"]
    with rows.change() as database:
        database.executemany("INSERT INTO repositories VALUES (?)", [(name,) for name in names])
    found = rows.rows("SELECT name FROM repositories WHERE name > ? ORDER BY name", "B")
    assert [name for (name,) in found] == sorted(set(names) - {"B"})


def test_changes_of_many_threads_come_one_after_the_other(rows: Metadata) -> None:
    with rows.change() as database:
        database.execute("INSERT INTO blobs VALUES ('x', 0, 0)")

    def add(_: int) -> None:
        with rows.change() as database:
            (size,) = database.execute("SELECT size FROM blobs").fetchone()
            database.execute("UPDATE blobs SET size = ?", (size + 1,))
        rows.row("SELECT size FROM blobs")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(add, range(60)))
    assert rows.row("SELECT size FROM blobs") == (60,)


def test_large_numbers_and_all_letters_come_back(rows: Metadata) -> None:
    with rows.change() as database:
        database.execute(
            "INSERT INTO blobs VALUES (?, ?, ?)", ("%s ü ☃ '\"\\", 1 << 60, 1e9 + 1e-6)
        )
    assert rows.rows("SELECT * FROM blobs") == [("%s ü ☃ '\"\\", 1 << 60, 1e9 + 1e-6)]


# --- a registry on it


@pytest.mark.parametrize("ahead", [1e8, -1e8])
def test_the_time_goes_on_from_where_the_last_run_ended(port: Port, ahead: float) -> None:
    registry = port.open().registry
    registry.metadata.note_time()
    before = registry.metadata.now()
    with registry.metadata.change() as database:  # as if the clock were set before the next start
        database.execute("UPDATE clock SET moment = moment - ?", (ahead,))
    port.close()
    rows = port.open().registry.metadata
    assert rows.now() == pytest.approx(before - ahead, abs=60)
    rows.catch_up()
    assert rows.now() == pytest.approx(before + max(-ahead, 0.0), abs=60)


def test_who_joins_counts_by_the_time_of_those_who_are_there(shared: Port) -> None:
    one = shared.open("one").registry.metadata
    with one.change() as database:
        database.execute("INSERT INTO clock VALUES (?)", (one.now() + 1e8,))
    one.note_time()
    two = shared.open("two").registry.metadata
    assert two.now() == pytest.approx(one.now(), abs=60)
    with one.change() as database:
        database.execute("INSERT INTO clock VALUES (?)", (one.now() + 1e8,))
    for rows in (one, two):
        rows.note_time()
    assert two.now() == pytest.approx(one.now(), abs=60)


def test_a_registry_works_on_it(port: Port) -> None:
    shop = port.open()
    first = shop.push("team/app", "1")
    second = shop.push("team/app", "2", [b"other"])
    shop.put("team/app", "all", index([(first, 7), (second, 7)]), MEDIA_INDEX)
    subject = {"mediaType": MEDIA_MANIFEST, "digest": first, "size": 7}
    signature = shop.push("team/app", "", [b"sig"], subject=subject, annotations={"a": "b"})
    shop.push("a/b", "x")
    assert shop.tags("team/app") == ["1", "2", "all"]
    assert shop.get("/v2/team/app/tags/list?n=1&last=1").json["tags"] == ["2"]
    assert shop.get("/v2/_catalog").json["repositories"] == ["a/b", "team/app"]
    results = shop.get("/v1/search?q=APP").json["results"]
    assert [r["name"] for r in results] == ["team/app"]
    found = shop.get(f"/v2/team/app/referrers/{first}").json["manifests"]
    assert [(f["digest"], f["annotations"]) for f in found] == [(signature, {"a": "b"})]
    shop.ask("DELETE", "/v2/team/app/manifests/1")
    shop.ask("DELETE", "/v2/team/app/manifests/2")
    assert shop.registry.collector.collect(-1, untagged=True).manifests == []
    shop.ask("DELETE", "/v2/team/app/manifests/all")
    gone = {digest for _, digest in shop.registry.collector.collect(-1, untagged=True).manifests}
    assert {first, second, signature} <= gone
    assert shop.get("/v2/a/b/manifests/x").status == 200


def test_a_push_relies_on_no_row_whose_link_went_in_a_removal_that_failed(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage did what it was asked, and its answer was lost: so the rows stay."""
    shop = port.open()
    child, layer = shop.push("team/app", ""), sha(b"layer")
    delete = FilesystemDriver.delete

    def failing(self: FilesystemDriver, *groups: Any, within: Change) -> None:
        delete(self, *groups, within=within)
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemDriver, "delete", failing)
        for url in (f"manifests/{child}", f"blobs/{layer}"):
            assert shop.ask("DELETE", f"/v2/team/app/{url}").status >= 500
            assert shop.ask("HEAD", f"/v2/team/app/{url}").status == 200
    body = manifest([layer], [b"layer"], annotations={"other": "one"})
    assert shop.put("team/app", "1", body).status == 201
    assert shop.put("team/app", "all", index([(child, 7)]), MEDIA_INDEX).status == 201
    port.close()
    shop = port.open()
    assert shop.get(f"/v2/team/app/blobs/{layer}").body == b"layer"
    assert sha(shop.get(f"/v2/team/app/manifests/{child}").body) == child


@pytest.mark.parametrize("url", ["/v2/_catalog?last=%00", "/v1/search?q=%00"])
def test_a_zero_byte_harms_nobody(port: Port, url: str) -> None:
    shop = port.open()
    assert shop.get(url).status in (200, 400)
    assert shop.push("team/app", "1")
    document = {"artifactType": "application/x\0y"}
    for layer in (b"layer", b"{}"):
        shop.push_blob("team/app", layer)
    answer = shop.put("team/app", "2", manifest([sha(b"layer")], [b"layer"], **document))
    assert answer.status in (201, 400)
    assert shop.get("/v2/team/app/manifests/1").status == 200


def test_a_start_compares_rows_and_files(port: Port) -> None:
    shop = port.open()
    digest = shop.push("team/app", "1")
    port.close()
    tag = port.root / "docker/registry/v2/repositories/team/app/_manifests/tags"
    (tag / "1").rename(tag / "2")
    shop = port.open()
    assert shop.tags("team/app") == ["2"]
    assert sha(shop.get("/v2/team/app/manifests/2").body) == digest


def test_quotas_retention_and_scrubbing_work_on_it(port: Port) -> None:
    shop = port.open()
    shop.registry.quotas.define([Quota(Pattern("team/**"), 2000, together=True)])
    shop.push("team/a", "1", [b"x" * 500])
    shop.push("team/b", "1", [b"x" * 500])
    used = shop.registry.quotas.used()[0][2]
    assert 500 < used < 1500
    shop.registry.quotas.define([Quota(Pattern("team/**"), 2000, together=True)])
    assert shop.registry.quotas.used()[0][2] == used
    content = b"y" * 1500
    answer = shop.ask("POST", f"/v2/team/c/blobs/uploads/?digest={sha(content)}", content)
    assert answer.status == 403
    shop.push("team/a", "2", [b"z"])
    shop.registry.retention.rules = [Rule([Pattern("**")], [Pattern("*")], last=1)]
    told = shop.registry.retention.apply(dry_run=True).tags
    assert shop.tags("team/a") == ["1", "2"]
    assert shop.registry.retention.apply().tags == told
    assert shop.tags("team/a") == ["2"]
    (path,) = port.root.glob(f"docker/registry/v2/blobs/sha256/*/{sha(b'z')[7:]}/data")
    path.write_bytes(b"?")
    found: list[str] = []
    shop.registry.scrubber.scrub(0, 1e12, lambda finding: found.append(finding.digest))
    assert found == [sha(b"z")]
    shop.push_blob("team/a", b"z")
    assert shop.get(f"/v2/team/a/blobs/{sha(b'z')}").body == b"z"


# --- several on one


@pytest.fixture
def shared(server: Postgres, tmp_path: Path) -> Iterator[Port]:
    found = Port(tmp_path / "data", server.database())
    yield found
    found.close()


def test_two_registries_are_one(shared: Port) -> None:
    one, two = shared.open("one"), shared.open("two")
    digest = one.push("team/app", "1")
    assert two.tags("team/app") == ["1"]
    assert sha(two.get("/v2/team/app/manifests/1").body) == digest
    two.push("team/app", "2")
    assert one.tags("team/app") == ["1", "2"]
    assert one.get("/v2/_catalog").json == two.get("/v2/_catalog").json
    two.ask("DELETE", "/v2/team/app/manifests/1")
    assert one.tags("team/app") == ["2"]


def test_an_upload_can_change_between_them_and_has_one_writer(shared: Port) -> None:
    one, two = shared.open("one"), shared.open("two")
    place = one.begin("team/app")
    assert one.ask("PATCH", place, b"first ").status == 202
    assert two.ask("PATCH", place, b"second ").status == 202
    receiver = one.registry.uploads.receive("team/app", place.rpartition("/")[2])
    assert two.ask("PATCH", place, b"?").status == 409
    receiver.close()
    content = b"first second third"
    assert one.ask("PUT", f"{place}?digest={sha(content)}", b"third").status == 201
    assert two.get(f"/v2/team/app/blobs/{sha(content)}").body == content


def test_pushes_and_collections_of_several_lose_nothing(shared: Port) -> None:
    shops = [shared.open(name) for name in ("one", "two")]
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            shops[0].registry.collector.collect(3600.0, untagged=True)
            shops[1].registry.collector.collect(3600.0)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(shops[n % 2].push, "team/app", str(n), [b"%d" % (n // 2), b"shared"])
                for n in range(16)
            ]
            digests = [job.result() for job in jobs]
    finally:
        stop.set()
        thread.join()
    for number, digest in enumerate(digests):
        shop = shops[(number + 1) % 2]
        assert sha(shop.get(f"/v2/team/app/manifests/{number}").body) == digest
        assert shop.get(f"/v2/team/app/blobs/{sha(b'%d' % (number // 2))}").status == 200
    assert len(shops[0].tags("team/app")) == 16


def test_any_order_of_pushes_deletes_collections_and_restarts_loses_nothing(
    server: Postgres,
) -> None:
    class OnPostgres(AnyOrder):
        address = ""

        def _open(self) -> None:
            self.address = self.address or server.database()
            shared = Shared(self.address, "one")
            self.registry = Registry.on_filesystem(self.root, shared=shared)
            self.life = serving(self.registry)
            self.shop = self.life.__enter__()

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnPostgres, settings=settings(AnyOrder.TestCase.settings, max_examples=4)
    )


def test_a_quota_is_one_for_all(shared: Port) -> None:
    shops = [shared.open(name) for name in ("one", "two")]
    for shop in shops:
        shop.registry.quotas.define([Quota(Pattern("team/**"), 1000, together=True)])

    def put(number: int) -> int:
        content = bytes([number]) * 300
        url = f"/v2/team/{number}/blobs/uploads/?digest={sha(content)}"
        return shops[number % 2].ask("POST", url, content).status

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(put, range(10)))
    assert sorted(statuses) == [201] * 3 + [403] * 7


def test_uploads_that_are_not_finished_count_for_all(shared: Port) -> None:
    shops = [shared.open(name) for name in ("one", "two")]
    for shop in shops:
        shop.registry.quotas.define([Quota(Pattern("team/**"), 1000, together=True)])
    place = shops[0].begin("team/a")
    assert shops[0].ask("PATCH", place, b"x" * 600).status == 202
    other = shops[1].begin("team/b")
    assert shops[1].ask("PATCH", other, b"y" * 401).status == 403
    receiver = shops[1].registry.uploads.receive("team/a", place.rpartition("/")[2], more=400)
    assert shops[0].ask("POST", "/v2/team/b/blobs/uploads/").status == 403
    receiver.close()
    assert shops[1].ask("PUT", f"{place}?digest={sha(b'x' * 600)}").status == 201
    shared.close()
    (use,) = _defined(shared.open("three"))
    assert (use.used, use.unfinished) == (600, 0)


def test_the_first_to_start_counts_the_uploads_that_are_there(port: Port) -> None:
    for _ in range(2):
        shop = port.open()
        _defined(shop)
        assert shop.ask("PATCH", shop.begin("team/a"), b"x" * 300).status == 202
        with shop.registry.metadata.change() as database:  # as a kill in a request leaves it
            database.execute("UPDATE uploads SET size = 900")
        port.close()
    (use,) = _defined(port.open())
    assert (use.used_uploads, use.unfinished) == (2, 600)


def _defined(shop: Shop) -> list[Use]:
    shop.registry.quotas.define([Quota(Pattern("team/**"), 1000, together=True)])
    return shop.registry.quotas.used()


def test_a_cache_forgets_what_was_not_used_for_longest(port: Port) -> None:
    shop = port.open()
    for name in ("hub/old", "hub/young", "mine/old"):
        shop.push(name, "1", [b"shared", name.encode() * 1000])
        with shop.registry.metadata.change() as database:
            for table in ("manifests", "blobs"):
                database.execute(f"UPDATE {table} SET touched = touched - 3600")
    hub = Upstream("hub", Url.parse("https://hub.example"), prefix="hub/", max_size=22_000)
    eviction = Eviction(shop.registry, Places([hub]), Figures())
    assert eviction.make_room("hub/new", 10_000)
    assert shop.get("/v2/hub/old/manifests/1").status == 404
    assert shop.get(f"/v2/hub/old/blobs/{sha(b'hub/old' * 1000)}").status == 404
    for name in ("hub/young", "mine/old"):
        assert shop.tags(name) == ["1"]
        for content in (b"shared", name.encode() * 1000):
            assert shop.get(f"/v2/{name}/blobs/{sha(content)}").body == content
    assert not eviction.make_room("hub/new", 30_000)
    eviction.came("hub/new", 10_000, kept=False)
    assert eviction.limits[0].coming == 0


def test_a_second_one_needs_a_name_and_the_same_files(shared: Port, tmp_path: Path) -> None:
    shared.open("one")
    with pytest.raises(Conflict, match="as one"):
        shared.open("one")
    with pytest.raises(Conflict, match="another process works"):
        Registry.on_filesystem(str(shared.root))
    with pytest.raises(Conflict, match="registries on other files use this database"):
        Registry.on_filesystem(str(tmp_path / "other"), shared=Shared(shared.address, "two"))


def test_the_next_one_alone_takes_over_other_files(shared: Port, tmp_path: Path) -> None:
    shared.open("one").push("team/app", "1")
    shared.close()
    other = Port(tmp_path / "other", shared.address)
    assert other.open().get("/v2/_catalog").json["repositories"] == []
    other.close()
    assert shared.open("one").tags("team/app") == ["1"]


def test_while_the_database_is_away_it_is_said_and_then_it_goes_on(tmp_path: Path) -> None:
    with postgres() as server:
        port = Port(tmp_path / "data", server.database())
        shop = port.open()
        digest = shop.push("team/app", "1")
        for way in ("stop", "restart"):
            server.stop()
            if way == "stop":
                for method, url in (
                    ("GET", "/v2/team/app/tags/list"),
                    ("GET", "/v2/team/app/manifests/1"),
                    ("POST", "/v2/team/app/blobs/uploads/?digest=" + sha(b"new")),
                ):
                    answer = shop.ask(method, url, b"new" if method == "POST" else b"")
                    assert (answer.status, answer.code) == (503, "UNAVAILABLE"), url
                    assert "database: " in answer.json["errors"][0]["message"]
                with pytest.raises(DatabaseAway):
                    shop.registry.collector.collect(0)
                with pytest.raises(Unavailable, match=r"metadata\.postgresql"):
                    port.open("two")
            server.start()
            assert shop.get("/v2/team/app/tags/list").status == 200
            assert shop.push("team/app", "2") == digest
        assert port.open("two").tags("team/app") == ["1", "2"]
        port.close()


@pytest.mark.parametrize("address", ["nonsense", "host=/none dbname=x"])
def test_an_address_that_leads_nowhere_is_told(tmp_path: Path, address: str) -> None:
    with pytest.raises((InvalidArgument, Unavailable), match=r"metadata\.postgresql"):
        Registry.on_filesystem(str(tmp_path), shared=Shared(address, "one"))


def test_places_for_values_are_translated() -> None:
    assert translated("a = ? AND b LIKE '%x' AND c = ?") == (
        "a = %s AND b LIKE '%%x' AND c = %s",
        (),
    )
    assert translated("?2 ?1 ?2") == ("%s %s %s", (1, 0, 1))
