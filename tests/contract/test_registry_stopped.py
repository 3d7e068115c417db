"""A registry that is stopped while it removes, and whose database lets others go on meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sampan.registry.database.metadata import DatabaseAway
from sampan.registry.database.postgresql import CHANGE, Changing
from sampan.registry.drivers import filesystem
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.patterns import Pattern
from sampan.registry.upkeep.retention import Rule
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_MANIFEST
from tests.contract.test_registry_metadata import Port
from tests.own_registry import Shop, manifest, sha
from tests.postgres import Postgres

LAYERS = [b"layer-1", b"layer-2"]
MANIFEST = manifest([sha(layer) for layer in LAYERS], LAYERS)
IMAGE = sha(MANIFEST)
OTHER = manifest([], [])


@pytest.fixture
def shared(server: Postgres, tmp_path: Path) -> Iterator[Port]:
    found = Port(tmp_path / "data", server.database())
    yield found
    found.close()


# --- where it is stopped, of what is done within a change


def _before_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are decided about, and no file is touched yet."""
    delete = FilesystemDriver.delete

    def stopping(self: FilesystemDriver, *groups: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        delete(self, *groups, **options)

    monkeypatch.setattr(FilesystemDriver, "delete", stopping)


def _at_file(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    """It was sure of the lock; so many files are on their way out."""

    def stop(monkeypatch: pytest.MonkeyPatch) -> None:
        rename, left = os.rename, [number]

        def stopping(source: str, target: str) -> None:
            if filesystem.TRASH in target:
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGSTOP)
                left[0] -= 1
            rename(source, target)

        monkeypatch.setattr(os, "rename", stopping)

    return stop


@contextmanager
def _stopped(
    shared: Port, stop: Callable[[pytest.MonkeyPatch], None], work: Callable[[Shop], object]
) -> Iterator[None]:
    """Have a registry, in a process of its own, stopped in its work; then it goes on, in vain."""
    child = os.fork()
    if not child:
        code = 1
        try:
            shop = Port(shared.root, shared.address).open("stopped")
            with pytest.MonkeyPatch.context() as monkeypatch:
                stop(monkeypatch)
                work(shop)
        except DatabaseAway:
            code = 3
        except BaseException:  # the parent must not live twice
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(child, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status
        _break_connection(shared.address)
        yield
    except BaseException:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFEXITED(status), status
    assert os.WEXITSTATUS(status) == 3


@contextmanager
def _killed(
    shared: Port, stop: Callable[[pytest.MonkeyPatch], None], work: Callable[[Shop], object]
) -> Iterator[None]:
    """Have a registry, in a process of its own, killed in its work."""
    child = os.fork()
    if not child:
        try:
            shop = Port(shared.root, shared.address).open("killed")
            with pytest.MonkeyPatch.context() as monkeypatch:
                stop(monkeypatch)
                work(shop)
        except BaseException:  # the parent must not live twice
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            os._exit(1)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    yield


def _break_connection(address: str) -> None:
    """End the connection of who has the lock of changes, as an idle time-out does."""
    import psycopg

    query = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks"
        " WHERE locktype = 'advisory' AND classid = %s AND granted"
    )
    with psycopg.connect(address, autocommit=True) as connection:
        assert connection.execute(query, (CHANGE,)).fetchall() == [(True,)]


POINTS = {"before": _before_files, **{f"file-{n}": _at_file(n) for n in range(4)}}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("again", ["said to be there", "pushed"])
def test_a_stopped_collection_takes_nothing_that_others_were_promised_meanwhile(
    shared: Port, point: str, again: str
) -> None:
    """Its connection has ended, so its lock has; the other registry takes the same layers."""
    shop = shared.open("one")
    for layer in LAYERS:
        shop.push_blob("team/app", layer)
    with _stopped(shared, POINTS[point], lambda other: other.registry.collector.collect(-1)):
        for layer in LAYERS:
            there = shop.ask("HEAD", f"/v2/team/app/blobs/{sha(layer)}").status == 200
            if again == "pushed" or not there:
                shop.push_blob("team/app", layer)
        shop.push_blob("team/app", b"{}")
        assert shop.put("team/app", "1", MANIFEST).status == 201
    _stays_whole(shared, shop)
    assert not os.listdir(shared.root / filesystem.TRASH)


def _is_whole(shop: Shop) -> None:
    assert sha(shop.get("/v2/team/app/manifests/1").body) == IMAGE
    for content in (*LAYERS, b"{}"):
        assert shop.get(f"/v2/team/app/blobs/{sha(content)}").body == content


def _stays_whole(shared: Port, shop: Shop) -> None:
    _is_whole(shop)
    shared.close()
    _is_whole(shared.open("one"))  # which compares the rows with the files


RULE = Rule([Pattern("team/*")], [Pattern("*")], last=0)


def _retain(shop: Shop) -> None:
    shop.registry.retention.rules = (RULE,)
    shop.registry.retention.apply()


WORK: dict[str, Callable[[Shop], object]] = {
    "delete a manifest": lambda shop: shop.registry.manifests.remove("team/app", Digest(IMAGE)),
    "delete a tag": lambda shop: shop.registry.manifests.untag("team/app", "1"),
    "delete a blob": lambda shop: shop.registry.blobs.remove("team/app", Digest(sha(LAYERS[0]))),
    "retention": _retain,
    "move a tag": lambda shop: shop.registry.manifests.keep(
        "team/app", Digest(sha(OTHER)), MEDIA_MANIFEST, OTHER, "1"
    ),
}


@pytest.mark.parametrize("work", WORK)
def test_what_a_stopped_registry_was_about_to_change_is_as_others_have_left_it(
    shared: Port, work: str
) -> None:
    shop = shared.open("one")
    assert shop.push("team/app", "1", LAYERS) == IMAGE

    def stop(monkeypatch: pytest.MonkeyPatch) -> None:
        confirm = Changing.confirm

        def stopping(self: Changing) -> None:
            os.kill(os.getpid(), signal.SIGSTOP)
            confirm(self)

        monkeypatch.setattr(Changing, "confirm", stopping)

    with _stopped(shared, stop, WORK[work]):
        assert shop.push("team/app", "1", LAYERS) == IMAGE
    _stays_whole(shared, shop)


@pytest.mark.parametrize("number", range(5))
def test_a_push_after_a_kill_amid_a_collection_brings_back_what_clients_are_told_is_there(
    shared: Port, number: int
) -> None:
    """The rows are as they were before, and links are gone; nobody compares them with the files."""
    shop = shared.open("one")
    for layer in (*LAYERS, b"{}"):
        shop.push_blob("team/app", layer)
    with _killed(shared, _at_file(number), lambda other: other.registry.collector.collect(-1)):
        for layer in (*LAYERS, b"{}"):
            if shop.ask("HEAD", f"/v2/team/app/blobs/{sha(layer)}").status != 200:
                shop.push_blob("team/app", layer)
        assert shop.put("team/app", "1", MANIFEST).status == 201
    _stays_whole(shared, shop)


def test_what_a_kill_has_left_of_a_removal_goes_with_old_uploads(shared: Port) -> None:
    """No registry that shares its rows can know at its start that nobody removes anything."""
    shop = shared.open("one")
    left = shared.root / filesystem.TRASH / "left"
    left.mkdir()
    (left / "data").write_bytes(b"blob")
    shop.registry.purge_uploads(left.stat().st_ctime - 60)
    assert left.exists()
    shop.registry.purge_uploads(left.stat().st_ctime + 60)
    assert not left.exists()
