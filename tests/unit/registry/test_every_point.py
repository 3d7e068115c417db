"""kill -9 at each operation on files and rows, one after the other: push, move, delete, collect.

Operations that only read are left out: a kill before one leaves what a kill before the next does.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.registry.errors import RegistryError
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_MANIFEST
from tests.own_registry import manifest, sha

pytestmark = pytest.mark.slow
COUNTED = ("mkdir", "rename", "unlink", "rmdir", "open", "fsync", "write", "ftruncate")
READING = ("SELECT", "BEGIN")  # what SQLite is asked
POINTS = 400  # more than any of the stories has
TURNS = 4  # tests among which the points are dealt out
DONE = 42
OPEN = os.open


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: what a kill leaves does not depend on the disk, which is slow."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def push(registry: Registry, tag: str, *layers: bytes) -> str:
    for blob in (*layers, b"{}"):
        key = registry.uploads.start("a")
        receiver = registry.uploads.receive("a", key)
        receiver.write(blob)
        registry.uploads.finish("a", key, Digest(sha(blob)), receiver)
    body = manifest([sha(layer) for layer in layers], layers)
    return registry.manifests.put("a", tag, MEDIA_MANIFEST, body).digest


Story = Callable[[Registry], None]
OLD, NEW = (b"old layer", b"shared"), (b"new layer", b"shared")


def push_new(registry: Registry) -> None:
    push(registry, "new", *NEW)


def move_a_tag(registry: Registry) -> None:
    push(registry, "old", *NEW)


def remove_the_manifest(registry: Registry) -> None:
    registry.manifests.remove("a", registry.manifests.find("a", "old").digest)


def remove_the_tag(registry: Registry) -> None:
    registry.manifests.untag("a", "old")


def collect(registry: Registry) -> None:
    registry.manifests.untag("a", "old")
    registry.collector.collect(-1, untagged=True)


STORIES = (push_new, move_a_tag, remove_the_manifest, remove_the_tag, collect)


class Counter:
    """Counts the operations of this process, and kills it before one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if function is not OPEN or arguments[1] & (os.O_CREAT | os.O_TRUNC):
                self.count()
            return function(*arguments, **options)

        return counted

    def count(self, statement: str = "") -> None:
        if statement.startswith(READING):
            return
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def watch(self, registry: Registry) -> None:
        for name in COUNTED:
            setattr(os, name, self.wrap(getattr(os, name)))
        for connection in connections(registry):
            connection.set_trace_callback(self.count)


def connections(registry: Registry) -> list[sqlite3.Connection]:
    found = getattr(registry.metadata, "_connections")  # noqa: B009 it is nobody else's business
    return list(found)


def live(folder: Path, story: Story, last: int) -> bool:
    """Live through a story up to an operation, in a process; tell whether the story ended."""
    child = os.fork()
    if not child:
        try:
            with Registry.on_filesystem(str(folder)) as registry:
                Counter(last).watch(registry)
                story(registry)
                os._exit(DONE)
        except BaseException:  # the parent must not live twice
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == DONE
    return True


def check(folder: Path, story: Story, ended: bool) -> None:
    """What was acknowledged is there, what is there is whole, and everything can go on."""
    with Registry.on_filesystem(str(folder)) as registry:
        tags = registry.lists.tags("a", "", None).items
        assert set(tags) <= {"keep", "old", "new"}
        assert "keep" in tags
        for tag in tags:
            whole(registry, tag)
        if story in (push_new, move_a_tag):
            assert "old" in tags
        if ended:
            assert ("new" in tags) == (story is push_new)
            assert ("old" in tags) == (story in (push_new, move_a_tag))
        registry.collector.collect(-1, untagged=True)
        assert registry.lists.tags("a", "", None).items == tags
        for tag in tags:
            whole(registry, tag)
        push(registry, "again", *NEW, *OLD)
        whole(registry, "again")
        assert not list((folder / "sampan" / "trash").iterdir())
        with pytest.raises(RegistryError):
            registry.manifests.find("a", "none")


def whole(registry: Registry, tag: str) -> None:
    stored, content = registry.manifests.read("a", tag)
    assert sha(content) == stored.digest
    for layer in (*OLD, *NEW):
        if sha(layer).encode() in content:
            with registry.blobs.open("a", Digest(sha(layer))) as blob:
                assert blob.read(0, blob.size) == layer


@pytest.mark.parametrize("turn", range(TURNS))
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_kill_at_any_point_loses_nothing_and_leaves_nothing_half(
    story: Story, turn: int, place: Path
) -> None:
    before = place / "before"
    with Registry.on_filesystem(str(before)) as registry:
        push(registry, "keep", b"kept", b"shared")
        push(registry, "old", *OLD)
    for last in range(turn, POINTS, TURNS):
        folder = place / str(last)
        shutil.copytree(before, folder)
        ended = live(folder, story, last)
        check(folder, story, ended)
        shutil.rmtree(folder)
        if ended:
            assert last > 10
            return
    pytest.fail("the story has no end")
