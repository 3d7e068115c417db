"""What every storage driver of the registry promises, for each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.driver import ANYHOW, Driver, File
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.drivers.inmemory import InMemoryDriver
from sampan.registry.drivers.objects.driver import ObjectDriver
from tests import stores
from tests.object_storages import REMOTE, Storages

LOCAL = ("filesystem", "inmemory")


@pytest.fixture(scope="module", params=[*LOCAL, *REMOTE])
def opened(
    request: pytest.FixtureRequest, storages: Storages
) -> Iterator[Callable[[Path], Driver]]:
    """Return what makes an empty driver of a kind."""
    if request.param == "filesystem":
        yield lambda folder: FilesystemDriver(str(folder))
    elif request.param == "inmemory":
        yield lambda folder: InMemoryDriver()
    else:
        shared = open_objects(request.param, storages.place(request.param))
        yield lambda folder: ObjectDriver(shared.bucket, stores.fresh("some/root"))
        shared.close()


@pytest.fixture
def driver(opened: Callable[[Path], Driver], tmp_path: Path) -> Driver:
    made = opened(tmp_path)
    made.check()
    return made


def move(driver: Driver, source: str, target: str) -> None:
    with driver.move(source, target) as moved:
        moved.prepare()
        moved.publish()


def test_what_was_written_is_read(driver: Driver) -> None:
    driver.write([("a/b/c", b"one"), ("a/d", b""), ("e", b"\0" * 70_000)])
    assert [driver.read(path) for path in ("a/b/c", "a/d", "e")] == [b"one", b"", b"\0" * 70_000]
    assert [driver.size(path) for path in ("a/b/c", "a/d", "e")] == [3, 0, 70_000]


def test_a_file_is_replaced_whole(driver: Driver) -> None:
    driver.write([("a/b", b"a long content")])
    driver.write([("a/b", b"short")])
    assert driver.read("a/b") == b"short"
    assert driver.list("a") == ["b"]


@pytest.mark.parametrize("path", ["none", "folder/none", "none/none"])
def test_what_is_not_there_is_told(driver: Driver, path: str) -> None:
    driver.write([("folder/file", b"x")])
    for ask in (driver.read, driver.size, driver.modified, driver.open):
        with pytest.raises(FileNotFoundError):
            ask(path)
    with pytest.raises(FileNotFoundError):
        move(driver, path, "target")
    driver.delete([path], within=ANYHOW)
    assert driver.list("none") == []


def test_names_are_listed_in_order(driver: Driver) -> None:
    driver.write([(f"a/{name}", b"") for name in ("c", "b/x", "b/y", "B")])
    assert driver.list("a") == ["B", "b", "c"]
    assert driver.list("a/b") == ["x", "y"]


def test_a_part_is_read(driver: Driver) -> None:
    driver.write([("a", bytes(range(100)))])
    with driver.open("a") as content:
        assert content.size == 100
        assert content.read(10, 5) == bytes(range(10, 15))
        assert content.read(95, 50) == bytes(range(95, 100))
        assert content.read(100, 1) == b""


def test_an_open_file_outlives_its_name(driver: Driver) -> None:
    driver.write([("a/b", b"content")])
    with driver.open("a/b") as content:
        driver.delete(["a"], within=ANYHOW)
        if isinstance(driver, ObjectDriver):  # nothing holds an object
            with pytest.raises(FileNotFoundError):
                content.read(0, 10)
        else:
            assert content.read(0, 10) == b"content"


def test_a_file_grows_where_it_stopped(driver: Driver) -> None:
    for offset, piece in ((0, b"01234"), (5, b"567"), (8, b"89")):
        with driver.append("up/data", offset) as writer:
            writer.write(memoryview(piece))
            writer.sync()
    assert driver.read("up/data") == b"0123456789"


def test_writing_from_an_earlier_place_cuts_off_the_rest(driver: Driver) -> None:
    with driver.append("up/data", 0) as writer:
        writer.write(b"0123456789")
    with driver.append("up/data", 3) as writer:
        writer.write(b"x")
    assert driver.read("up/data") == b"012x"


def test_a_moved_file_replaces_its_target(driver: Driver) -> None:
    driver.write([("up/data", b"new"), ("blobs/aa/data", b"old")])
    with driver.move("up/data", "blobs/aa/data") as moved:
        moved.prepare()
        assert driver.read("blobs/aa/data") == b"old"
        moved.publish()
    assert driver.read("blobs/aa/data") == b"new"
    assert driver.list("up") == []


def test_a_folder_is_removed_with_all_that_is_in_it(driver: Driver) -> None:
    driver.write([("a/b/c", b"1"), ("a/b/d/e", b"2"), ("a/bb", b"3")])
    driver.delete(["a/b"], within=ANYHOW)
    assert driver.list("a") == ["bb"]
    driver.delete(["a/bb"], within=ANYHOW)
    with pytest.raises(FileNotFoundError):
        driver.read("a/bb")


class Refusing:
    """A change that is over after so many questions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def confirm(self) -> None:
        if not self.left:
            raise OSError("others go on")
        self.left -= 1


@pytest.mark.parametrize("asked", range(3))
def test_a_removal_that_is_refused_leaves_nothing_that_leads_to_what_is_gone(
    driver: Driver, asked: int
) -> None:
    files = ["tags/1/link", "tags/2/link", "blobs/aa/data", "other"]
    driver.write([(path, b"x") for path in files])
    change = Refusing(asked)
    try:
        driver.delete(["tags/1", "tags/2", "tags/none"], ["blobs/aa"], within=change)
    except OSError:
        assert not change.left
        there = [driver.sizes([path]) == [1] for path in files]
        assert there[2:] == [True, True]
        assert asked or all(there)
    else:
        assert asked
        assert driver.sizes(files) == [None, None, None, 1]


def test_staged_files_have_their_names_once_they_are_published(driver: Driver) -> None:
    driver.write([("a/old", b"old")])
    files = [File("a/old", b"new"), File("b/c/link", b"told", told=True)]
    with driver.stage(files) as staged:
        assert driver.read("a/old") == b"old"
        assert driver.list("b/c") == []
        staged.publish()
        staged.settle()
    assert (driver.read("a/old"), driver.read("b/c/link")) == (b"new", b"told")
    with driver.stage([File("a/never", b"x")]):
        pass
    assert driver.list("a") == ["old"]
    driver.settle(["a/old", "b/c/link"])


def test_staged_files_come_to_be_there_where_a_folder_was_removed(driver: Driver) -> None:
    with driver.stage([File("a/b/link", b"x", told=True)]) as staged:
        driver.delete(["a/b"], within=ANYHOW)
        staged.publish()
        staged.settle()
    assert driver.read("a/b/link") == b"x"


def test_many_write_at_once(driver: Driver) -> None:
    def work(number: int) -> None:
        for turn in range(10):
            driver.write([(f"a/b{turn}/c{number}", b"x"), ("a/same", str(number).encode())])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [driver.list(f"a/b{turn}") for turn in range(10)] == [[f"c{n}" for n in range(8)]] * 10
    assert driver.read("a/same") in [b"%d" % n for n in range(8)]
