"""A registry that keeps descriptors in a real Redis: what is in it, and what happens without it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.database.metadata import Metadata
from sampan.registry.descriptors import redis as descriptors
from sampan.registry.descriptors.descriptors import owe_nothing
from sampan.registry.descriptors.keys import State
from sampan.registry.descriptors.redis import RedisDescriptors
from sampan.registry.descriptors.server import Server
from sampan.registry.registry import Registry, Shared
from sampan.spec.digest import Digest
from tests.own_registry import Shop, manifest, serving, sha
from tests.postgres import Postgres, postgres
from tests.redis_server import RedisServer, redis_server
from tests.session import PATIENCE, eventually

OCTETS = "application/octet-stream"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy, where nobody is harmed."""
    monkeypatch.setattr(descriptors, "SETTLE_SECONDS", PATIENCE)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


class Port:
    """Opens registries that keep descriptors at one server."""

    def __init__(self, root: Path, server: RedisServer, address: str = "") -> None:
        self.root = root
        self.where = Server((server.socket,), answer_seconds=PATIENCE, retries=0)
        self._address = address
        self._life = ExitStack()

    def open(self, worker: str = "one") -> Shop:
        shared = Shared(self._address, worker) if self._address else None
        registry = self._life.enter_context(Registry.on_filesystem(str(self.root), shared=shared))
        registry.describe(RedisDescriptors(registry.metadata, registry.driver, self.where))
        return self._life.enter_context(serving(registry))

    def close(self) -> None:
        self._life.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def port(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer) -> Iterator[Port]:
    address = ""
    if request.param == "postgresql":
        address = request.getfixturevalue("database").database()
    found = Port(tmp_path / "data", server, address)
    yield found
    found.close()


@pytest.fixture
def sqlite(tmp_path: Path, server: RedisServer) -> Iterator[Port]:
    found = Port(tmp_path / "data", server)
    yield found
    found.close()


def described(repository: str, contents: list[bytes], alone: list[bytes] = []) -> dict[str, object]:  # noqa: B006
    """Return all that a Redis has to say of these blobs of a repository, and of manifests."""
    found: dict[str, object] = {
        f"blobs::{sha(content)}": {
            "digest": sha(content),
            "size": str(len(content)),
            "mediatype": OCTETS,
        }
        for content in [*contents, *alone]
    }
    for content in contents:
        found[f"repository::{repository}::blobs::{sha(content)}"] = {"mediatype": OCTETS}
    found[f"repository::{repository}::blobs"] = {sha(content) for content in contents}
    return found


def unowed(metadata: Metadata) -> bool:
    """Tell whether all debts are paid once."""
    return not metadata.rows("SELECT 1 FROM owed WHERE due = 0")


def away(shop: Shop) -> str:
    figures = shop.registry.descriptors.figures
    assert figures
    return figures.away


# --- what is there


def test_what_is_pushed_and_mounted_is_there_as_docker_registry_has_it(
    port: Port, server: RedisServer
) -> None:
    shop = port.open()
    shop.push("team/app", "1", [b"layer"])
    body = manifest([sha(b"layer")], [b"layer"])
    told = described("team/app", [b"layer", b"{}"], [body])
    eventually(lambda: server.dump() == told)
    query = f"?mount={sha(b'layer')}&from=team/app"
    assert shop.ask("POST", f"/v2/other/blobs/uploads/{query}").status == 201
    eventually(lambda: server.dump() == told | described("other", [b"layer"]))


def test_what_is_deleted_is_gone_before_the_answer(port: Port, server: RedisServer) -> None:
    shop = port.open()
    for name in ("team/app", "other"):
        shop.push_blob(name, b"layer")
    told = described("team/app", [b"layer"]) | described("other", [b"layer"])
    eventually(lambda: server.dump() == told)
    assert shop.ask("DELETE", f"/v2/team/app/blobs/{sha(b'layer')}").status == 202
    assert server.dump() == described("other", [b"layer"])


def test_what_is_collected_is_gone_with_it(port: Port, server: RedisServer) -> None:
    shop = port.open()
    digest = shop.push("team/app", "1", [b"layer"])
    shop.push_blob("team/app", b"kept by nobody")
    eventually(lambda: len(server.dump()) == 8)
    shop.registry.collector.collect(0)
    body = manifest([sha(b"layer")], [b"layer"])
    assert server.dump() == described("team/app", [b"layer", b"{}"], [body])
    shop.registry.manifests.remove("team/app", Digest(digest))
    shop.registry.collector.collect(0, dry_run=True)
    assert len(server.dump()) == 6
    shop.registry.collector.collect(0)
    assert server.dump() == {}


def test_what_is_damaged_is_gone_and_comes_back(sqlite: Port, server: RedisServer) -> None:
    shop = sqlite.open()
    digest = Digest(shop.push_blob("team/app", b"layer"))
    eventually(lambda: server.dump() == described("team/app", [b"layer"]))
    (sqlite.root / paths.blob(digest)).write_bytes(b"LAYER")
    shop.registry.scrubber.scrub(0, time.time(), lambda finding: None)
    assert f"blobs::{digest}" not in server.dump()
    shop.push_blob("other", b"layer")
    told = described("team/app", [b"layer"]) | described("other", [b"layer"])
    eventually(lambda: server.dump() == told)


def test_a_debt_is_paid_twice(
    sqlite: Port, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docker-registry may have looked at the storage before the change, and write after it."""
    monkeypatch.setattr(descriptors, "LOOK_SECONDS", 0.05)
    shop = sqlite.open()
    metadata = shop.registry.metadata
    digest = shop.push_blob("team/app", b"layer")
    shop.registry.blobs.remove("team/app", Digest(digest))
    ((due,),) = metadata.rows("SELECT due FROM owed")
    assert due > 0
    with server.client() as client:
        client.sadd("repository::team/app::blobs", digest)
        with metadata.change() as rows:  # the time has come
            rows.execute("UPDATE owed SET due = due - ?", (2 * descriptors.AGAIN_SECONDS,))
        eventually(lambda: not client.exists("repository::team/app::blobs"))
    eventually(lambda: not metadata.rows("SELECT 1 FROM owed"))


def test_content_that_comes_back_owes_nothing(sqlite: Port, server: RedisServer) -> None:
    sqlite.where = replace(sqlite.where, answer_seconds=0.5)
    shop = sqlite.open()
    digest = shop.push_blob("team/app", b"layer")
    server.signal(signal.SIGSTOP)
    shop.registry.blobs.remove("team/app", Digest(digest))
    shop.push_blob("team/app", b"layer")
    server.signal(signal.SIGCONT)
    eventually(lambda: not away(shop) and unowed(shop.registry.metadata))
    eventually(lambda: server.dump() == described("team/app", [b"layer"]))


def test_registries_that_share_rows_pay_for_one_that_is_gone(
    database: Postgres, tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "LOOK_SECONDS", 0.05)
    with closing(Port(tmp_path / "data", server, database.database())) as port:
        one, two = port.open("one"), port.open("two")
        digest = one.push_blob("team/app", b"layer")
        eventually(lambda: server.dump() == described("team/app", [b"layer"]))
        one.registry.descriptors.close()  # as if it were killed: nobody pays there any more
        one.registry.blobs.remove("team/app", Digest(digest))
        eventually(lambda: set(server.dump()) == {f"blobs::{digest}"})
        eventually(lambda: unowed(two.registry.metadata))


def test_what_another_registry_removes_while_it_is_written_does_not_stay(
    sqlite: Port, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have paid its debt just before this one writes."""
    write = RedisDescriptors._add

    def late(self: RedisDescriptors, states: list[State]) -> bool:
        with self._metadata.change() as rows:
            for table in ("links", "blobs", "owed"):
                rows.execute(f"DELETE FROM {table}")
        return write(self, states)

    monkeypatch.setattr(RedisDescriptors, "_add", late)
    shop = sqlite.open()
    shop.push_blob("team/app", b"layer")
    figures = shop.registry.descriptors.figures
    eventually(lambda: figures and figures.written)
    eventually(lambda: server.dump() == {})


# --- bad days


def refuse(server: RedisServer) -> Callable[[], None]:
    server.kill()
    return server.start


def hang(server: RedisServer) -> Callable[[], None]:
    server.signal(signal.SIGSTOP)
    return lambda: server.signal(signal.SIGCONT)


def lock(server: RedisServer) -> Callable[[], None]:
    with server.client() as client:
        client.config_set("requirepass", "secret")
        client.client_kill_filter(skipme=True)

    def unlock() -> None:
        with server.client(password="secret") as client:
            client.config_set("requirepass", "")

    return unlock


def follow(server: RedisServer) -> Callable[[], None]:
    """Make it a replica, which takes no changes."""
    with server.client() as client:
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", "1")

    def lead() -> None:
        with server.client() as client:
            client.replicaof("NO", "ONE")

    return lead


BAD_DAYS = [refuse, hang, lock, follow]


@pytest.mark.parametrize("harm", BAD_DAYS)
def test_without_it_clients_are_served_and_debts_are_paid_later(
    harm: Callable[[RedisServer], Callable[[], None]],
    sqlite: Port,
    server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.options |= {"save": "", "appendonly": "yes", "appendfsync": "always"}
    server.kill()
    server.start()
    if harm is hang:
        sqlite.where = replace(sqlite.where, answer_seconds=3.0)
    shop = sqlite.open()
    digests = [shop.push_blob("team/app", b"%d" % number) for number in range(20)]
    eventually(lambda: server.dump() == described("team/app", [b"%d" % n for n in range(20)]))
    caplog.set_level(logging.INFO)
    heal = harm(server)
    for digest in digests:
        assert shop.ask("DELETE", f"/v2/team/app/blobs/{digest}").status == 202
    shop.push("team/app", "new", [b"more"])
    assert shop.get(f"/v2/team/app/blobs/{sha(b'more')}").body == b"more"
    eventually(lambda: away(shop))
    assert not unowed(shop.registry.metadata)
    figures = shop.registry.descriptors.figures
    assert figures
    assert figures.notes()["redis"].startswith(figures.away)
    heal()
    eventually(lambda: not away(shop) and unowed(shop.registry.metadata))
    with server.client() as client:
        assert client.smembers("repository::team/app::blobs") <= {sha(b"more"), sha(b"{}")}
        assert not client.exists(*(f"repository::team/app::blobs::{d}" for d in digests))
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len([text for text in told if "redis" in text]) == 1, told
    assert "redis answers again" in caplog.text


def test_a_debt_outlasts_both(sqlite: Port, server: RedisServer) -> None:
    server.options |= {"appendonly": "yes", "appendfsync": "always"}
    server.kill()
    server.start()
    shop = sqlite.open()
    digest = shop.push_blob("team/app", b"layer")
    eventually(lambda: server.dump() == described("team/app", [b"layer"]))
    server.kill()
    shop.registry.blobs.remove("team/app", Digest(digest))
    sqlite.close()
    server.start()
    assert server.dump() == described("team/app", [b"layer"])
    shop = sqlite.open()
    eventually(lambda: set(server.dump()) == {f"blobs::{digest}"})


def test_a_full_server_takes_nothing_and_loses_what_is_removed(
    sqlite: Port, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    shop = sqlite.open()
    digest = shop.push_blob("team/app", b"layer")
    eventually(lambda: server.dump() == described("team/app", [b"layer"]))
    with server.client() as client:
        client.config_set("maxmemory", "1")
        figures = shop.registry.descriptors.figures
        assert figures
        for number in range(5):
            shop.push_blob("team/app", b"%d" % number)
            eventually(lambda: figures.refused)
        assert "maxmemory" in figures.notes()["redis"]
        shop.registry.blobs.remove("team/app", Digest(digest))
        assert set(server.dump()) == {f"blobs::{digest}"}
        assert len([r for r in caplog.records if "takes no descriptors" in r.message]) == 1
        client.config_set("maxmemory", "0")
    shop.push_blob("team/app", b"again")
    eventually(lambda: f"blobs::{sha(b'again')}" in server.dump() and not figures.notes())


# --- what rows do not know


def test_a_server_that_comes_back_with_old_descriptors_is_swept(
    sqlite: Port, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "LOOK_SECONDS", 0.05)
    shop = sqlite.open()
    shop.push_blob("team/app", b"kept")
    digest = shop.push_blob("team/app", b"layer")
    eventually(lambda: server.dump() == described("team/app", [b"layer", b"kept"]))
    with server.client() as client:
        client.save()
    shop.registry.blobs.remove("team/app", Digest(digest))
    shop.registry.collector.collect(0)
    server.kill()
    server.start()  # as it was when it was saved
    eventually(lambda: not away(shop) and server.dump() == {})


def test_a_sweep_keeps_what_is_in_files_and_what_is_not_ours(
    sqlite: Port, server: RedisServer
) -> None:
    """docker-registry beside us may have taken what the rows do not know."""
    shop = sqlite.open()
    shop.push_blob("team/app", b"known")
    told = described("team/app", [b"known"])
    eventually(lambda: server.dump() == told)
    theirs = Digest(sha(b"theirs"))
    for path, content in (
        (paths.blob(theirs), b"theirs"),
        (f"{paths.layer_folder('team/app', theirs)}/link", theirs.encode()),
    ):
        place = sqlite.root / path
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
    gone = sha(b"gone")
    with server.client() as client:
        for digest in (theirs, gone):
            client.sadd("repository::team/app::blobs", digest)
            client.hset(f"repository::team/app::blobs::{digest}", "mediatype", OCTETS)
            client.hset(f"blobs::{digest}", mapping={"digest": digest, "size": 6})
        client.hset(f"repository::orphan::blobs::{gone}", "mediatype", OCTETS)
        for key in ("blobs::of somebody", "repository::", "repository::UPPER::blobs", "other"):
            client.hset(key, "field", "value")
        before = dict.fromkeys(client.keys())
    with shop.registry.metadata.change() as rows:
        rows.execute("UPDATE described SET swept = 0")
    shop.registry.descriptors.settle()

    def swept() -> bool:
        found = server.dump()
        members = found["repository::team/app::blobs"]
        return gone not in members and not any(gone in key for key in found)

    eventually(swept)
    with server.client() as client:
        assert set(client.keys()) == {key for key in before if gone not in key}
        assert client.smembers("repository::team/app::blobs") == {sha(b"known"), theirs}


def test_rows_that_are_made_anew_sweep(sqlite: Port, server: RedisServer) -> None:
    shop = sqlite.open()
    digest = shop.push_blob("team/app", b"layer")
    eventually(lambda: server.dump() == described("team/app", [b"layer"]))
    sqlite.close()
    for file in (sqlite.root / "sampan").glob("registry.db*"):
        file.unlink()
    (sqlite.root / paths.blob(Digest(digest))).unlink()
    (sqlite.root / paths.layer_folder("team/app", Digest(digest)) / "link").unlink()
    sqlite.open()
    eventually(lambda: server.dump() == {})


def test_nothing_is_owed_where_nobody_reads(sqlite: Port, server: RedisServer) -> None:
    shop = sqlite.open()
    sqlite.close()
    with Registry.on_filesystem(str(sqlite.root)) as registry:
        owe_nothing(registry.metadata)
        with serving(registry) as shop:
            digest = shop.push_blob("team/app", b"layer")
            registry.blobs.remove("team/app", Digest(digest))
            registry.collector.collect(0)
        assert registry.metadata.rows("SELECT * FROM owed") == []


def test_nobody_waits_for_a_server_that_may_take_for_ever(
    sqlite: Port, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "SETTLE_SECONDS", 0.1)
    sqlite.where = replace(sqlite.where, answer_seconds=3600.0)
    shop = sqlite.open()
    digests = [shop.push_blob("team/app", b"%d" % number) for number in range(50)]
    server.signal(signal.SIGSTOP)
    for digest in digests:
        assert shop.ask("DELETE", f"/v2/team/app/blobs/{digest}").status == 202
    shop.push("team/app", "1")
    assert shop.tags("team/app") == ["1"]
    sqlite.close()
