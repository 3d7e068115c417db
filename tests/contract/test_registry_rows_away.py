"""Rows in PostgreSQL on bad days: no changes, no connections, broken ones, stopped registries."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from sampan.registry.database.metadata import DatabaseAway
from tests.contract.test_registry_metadata import Port
from tests.own_registry import Shop, manifest, sha
from tests.postgres import Postgres, postgres
from tests.session import PATIENCE, eventually


@pytest.fixture
def shared(server: Postgres, tmp_path: Path) -> Iterator[Port]:
    found = Port(tmp_path / "data", server.database())
    yield found
    found.close()


def _refused(shop: Shop, method: str, url: str, body: bytes = b"") -> None:
    answer = shop.ask(method, url, body)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE"), url
    assert "database: " in answer.json["errors"][0]["message"]


def test_a_database_for_reading_only_stops_no_pull(tmp_path: Path) -> None:
    """As after a failover to what is still a replica."""
    with postgres() as server:
        address = server.database()
        port = Port(tmp_path / "data", address)
        shop = port.open()
        digest = shop.push("team/app", "1")
        with shop.registry.metadata.change() as database:  # each look at it is to be noted
            for table in ("blobs", "manifests"):
                database.execute(f"UPDATE {table} SET touched = 0")
        name = address.rpartition("dbname=")[2]
        _say(address, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        _end(address)
        assert sha(shop.get("/v2/team/app/manifests/1").body) == digest
        assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").body == b"layer"
        assert shop.tags("team/app") == ["1"]
        another = port.open("two")  # which is started now
        assert sha(another.get("/v2/team/app/manifests/1").body) == digest
        _refused(shop, "POST", f"/v2/team/app/blobs/uploads/?digest={sha(b'new')}", b"new")
        _refused(shop, "DELETE", f"/v2/team/app/manifests/{digest}")
        with pytest.raises(DatabaseAway):
            shop.registry.collector.collect(-1)
        _say(address, f'ALTER DATABASE "{name}" RESET default_transaction_read_only', write=True)
        _end(address)
        assert shop.push("team/app", "2") == digest
        assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").body == b"layer"
        port.close()


OTHERS = "WHERE pid != pg_backend_pid() AND application_name = 'sampan-registry'"


def _is_empty(address: str) -> bool:
    """Tell whether nobody else is connected: a server hears of the end of connections by and by."""
    import psycopg

    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    try:
        with psycopg.connect(address) as connection:
            return connection.execute(query).fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _end(address: str) -> None:
    """End the connections of registries, and wait until they have ended."""
    query = f"SELECT pg_terminate_backend(pid, {PATIENCE * 1000:.0f}) FROM pg_stat_activity"
    _say(address, f"{query} {OTHERS}")


def _say(address: str, query: str, write: bool = False) -> None:
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        if write:
            connection.execute("SET default_transaction_read_only = off")
        connection.execute(query.encode())


def test_a_server_without_room_for_more_connections_is_told(tmp_path: Path) -> None:
    import psycopg

    with postgres() as server, ExitStack() as stack:
        address = server.database()
        name = address.rpartition("dbname=")[2]
        port = Port(tmp_path / "data", address)
        shop = port.open()
        digest = shop.push("team/app", "1")
        _say(address, f'CREATE ROLE "{name}" LOGIN')
        _end(address)
        crowd = []
        with pytest.raises(psycopg.OperationalError):
            while True:
                crowd.append(stack.enter_context(psycopg.connect(address)))
        assert len(crowd) > 10
        _refused(shop, "GET", "/v2/team/app/manifests/1")
        _refused(shop, "POST", f"/v2/team/app/blobs/uploads/?digest={sha(b'new')}", b"new")
        for connection in crowd:
            connection.close()
        eventually(lambda: _is_empty(address))
        assert sha(shop.get("/v2/team/app/manifests/1").body) == digest
        assert shop.push("team/app", "2") == digest
        port.close()


STEPS = ("links", "blobs", "manifests", "parts", "tags")


@pytest.mark.parametrize("table", STEPS)
@pytest.mark.parametrize("event", ["INSERT", "DELETE"])
def test_a_connection_that_breaks_within_a_change_undoes_it(
    server: Postgres, tmp_path: Path, table: str, event: str
) -> None:
    """The server ends the connection as soon as a change touches a table."""
    port = Port(tmp_path / "data", server.database())
    shop = port.open()
    old = shop.push("team/app", "old", [b"old"])
    body = manifest([sha(b"new")], [b"new"])
    function = """
        CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(30); RETURN NULL;
        END $$;
    """
    trigger = f"CREATE TRIGGER cut AFTER {event} ON {table} EXECUTE FUNCTION cut()"
    _say(port.address, function + trigger)

    def push() -> list[int]:
        statuses = []
        for content in (b"new", b"{}"):
            url = f"/v2/team/app/blobs/uploads/?digest={sha(content)}"
            statuses.append(shop.ask("POST", url, content).status)
        return [*statuses, shop.put("team/app", "new", body).status]

    def delete() -> list[int]:
        gone = shop.ask("DELETE", f"/v2/team/app/manifests/{old}").status
        try:
            shop.registry.collector.collect(-1)
        except DatabaseAway:
            gone = 503
        return [gone]

    work, good = (push, {201}) if event == "INSERT" else (delete, {202})
    found = set(work())
    assert 503 in found
    assert found <= {*good, 503, 400}
    if event == "INSERT":
        assert shop.get("/v2/team/app/manifests/new").status == 404
        assert shop.get("/v2/team/app/manifests/old").status == 200
        assert shop.get(f"/v2/team/app/blobs/{sha(b'old')}").body == b"old"
    _say(port.address, "DROP FUNCTION cut CASCADE")
    if event == "INSERT":
        assert set(work()) == good
        assert sha(shop.get("/v2/team/app/manifests/new").body) == sha(body)
    else:
        assert shop.ask("DELETE", f"/v2/team/app/manifests/{old}").status in (202, 404)
        shop.registry.collector.collect(-1)
        assert shop.get(f"/v2/team/app/blobs/{sha(b'old')}").status == 404
    port.close()


DAY = 86400.0


def test_machines_whose_clocks_differ_keep_their_promises(
    shared: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shared.open("one")
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 2 * DAY)
    two = shared.open("two")
    old = one.push_blob("team/app", b"old")
    with one.registry.metadata.change() as database:
        database.execute("UPDATE blobs SET touched = touched - ?", (DAY,))
    untagged = two.push("team/app", "", [b"layer"])
    assert two.ask("HEAD", f"/v2/team/app/blobs/{old}").status == 200  # which promises it anew
    for shop in (one, two):
        shop.registry.collector.collect(3600.0, untagged=True)
    assert two.get(f"/v2/team/app/manifests/{untagged}").status == 200
    assert one.get(f"/v2/team/app/blobs/{sha(b'layer')}").body == b"layer"
    assert two.put("team/app", "1", manifest([old], [b"old"])).status == 201


def _push_for_ever(port: Port, tell: int) -> None:
    """Push images, and say so; the layers are garbage until their manifest comes."""
    shop = port.open("stopped")
    for number in range(1 << 30):
        layer = b"%d" % number
        for content in (layer, b"{}"):
            shop.push_blob("team/app", content)
            os.write(tell, b"b")
        status = shop.put("team/app", f"t{number}", manifest([sha(layer)], [layer])).status
        assert status in (201, 400)
        os.write(tell, b"A" if status == 201 else b"r")


def _waits(address: str) -> bool:
    """Tell whether somebody waits for the lock of changes."""
    import psycopg

    with psycopg.connect(address) as connection:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return connection.execute(query).fetchone() != (0,)


@pytest.mark.slow
def test_one_that_is_stopped_for_longer_than_every_promise_acknowledges_nothing_that_is_gone(
    shared: Port,
) -> None:
    """SIGSTOP, a collection by the other that heeds no promise, SIGCONT: at any point of pushes."""
    shop = shared.open("one")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            _push_for_ever(Port(shared.root, shared.address), writer)
        except BaseException:  # the parent must not live twice
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            os._exit(1)
    os.close(writer)
    told = b""
    try:
        with ThreadPoolExecutor(1) as pool:
            for turn in range(60):
                for _ in range(1 + turn % 5):  # blobs and manifests, some of which come to an end
                    told += os.read(reader, 1)
                os.kill(child, signal.SIGSTOP)
                done = pool.submit(shop.registry.collector.collect, -1)
                eventually(lambda: done.done() or _waits(shared.address))  # noqa: B023
                os.kill(child, signal.SIGCONT)
                done.result(PATIENCE)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        told += file.read()
    numbers = [n for n, word in enumerate(told.replace(b"b", b"").decode()) if word == "A"]
    assert numbers, told
    for number in numbers:
        assert shop.get(f"/v2/team/app/manifests/t{number}").status == 200
        layer = b"%d" % number
        assert shop.get(f"/v2/team/app/blobs/{sha(layer)}").body == layer
        assert shop.get(f"/v2/team/app/blobs/{sha(b'{}')}").body == b"{}"
