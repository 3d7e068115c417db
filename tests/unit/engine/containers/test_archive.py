"""Archives travel through pipes, and their errors come first."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sampan.engine.containers.archive import Archives
from sampan.engine.containers.notices import Notices
from sampan.engine.events import Events
from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.rpc import Fd
from sampan.spec.docker.config import Config, HostConfig
from sampan.spec.docker.containers import MountPoint
from sampan.storage.mounter import Change, ExtractOptions, Mounter, PathStat
from tests.unit.engine.fakes import FakeSpawner, container
from tests.unit.engine.volume_world import volume_world

BIG = os.urandom(3 << 20)


class FakeMounter:
    """One file, /big, and a folder that takes what comes."""

    def __init__(self) -> None:
        self.received = b""
        self.options: ExtractOptions | None = None
        self.over = threading.Event()

    def mount(self, key: str, read_only: bool = False) -> Fd:
        return Fd(os.open("/", os.O_PATH))

    def stat(self, key: str, path: str, root: Fd | None = None, user: Fd | None = None) -> PathStat:
        if path != "/big":
            raise NotFound(f"Could not find the file {path}")
        return PathStat(name="big", size=len(BIG), mode=0o644, mtime="")

    def pack(
        self, key: str, path: str, into: Fd, root: Fd | None = None, user: Fd | None = None
    ) -> None:
        try:
            rest = memoryview(BIG)
            while rest:
                rest = rest[os.write(into.number, rest) :]
        except BrokenPipeError as error:
            raise Unavailable("nobody reads the archive any more") from error
        finally:
            self.over.set()

    def extract(
        self,
        key: str,
        path: str,
        archive: Fd,
        options: ExtractOptions,
        root: Fd | None = None,
        user: Fd | None = None,
    ) -> None:
        self.options = options
        if path == "/file":
            raise InvalidArgument("extraction point is not a directory")
        parts = []
        while part := os.read(archive.number, 1 << 16):
            parts.append(part)
            if path == "/first":
                break
        self.received = b"".join(parts)

    def changes(self, key: str) -> list[Change]:
        return [Change(path="/new", kind=1)]


@pytest.fixture
def mounter() -> FakeMounter:
    return FakeMounter()


def archives(mounter: FakeMounter) -> Archives:
    mounts = volume_world().mounts
    return Archives(cast(Mounter, mounter), FakeSpawner(), Notices(Events()), mounts)


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def test_a_path_comes_whole_and_with_its_description(mounter: FakeMounter) -> None:
    async def get() -> bytes:
        stat, content = await archives(mounter).get(container(), "/big")
        assert stat.name == "big"
        return b"".join([block async for block in content])

    assert asyncio.run(get()) == BIG


def test_a_missing_path_is_named_with_its_container(mounter: FakeMounter) -> None:
    with pytest.raises(NotFound, match="Could not find the file /x in container tested"):
        asyncio.run(archives(mounter).get(container(), "/x"))


def test_a_reader_that_leaves_ends_the_packer(mounter: FakeMounter) -> None:
    async def leave() -> None:
        content: Any = await archives(mounter).export(container())
        assert await anext(content)
        await content.aclose()

    asyncio.run(leave())
    assert mounter.over.is_set()


def test_an_error_before_the_first_byte_is_raised_at_once(mounter: FakeMounter) -> None:
    def pack(*_: object) -> None:
        raise NotFound("no such snapshot")

    mounter.pack = pack  # type: ignore[method-assign]
    with pytest.raises(NotFound, match="no such snapshot"):
        asyncio.run(archives(mounter).export(container()))


def test_an_upload_arrives_whole(mounter: FakeMounter) -> None:
    made = container(Config(user="daemon"))
    options = ExtractOptions(copy_uid_gid=True)
    asyncio.run(archives(mounter).put(made, "/tmp", blocks(BIG), options))
    assert mounter.received == BIG
    assert mounter.options
    assert mounter.options.user == "daemon"


def test_what_follows_the_end_of_an_archive_is_dropped(mounter: FakeMounter) -> None:
    asyncio.run(archives(mounter).put(container(), "/first", blocks(BIG), ExtractOptions()))
    assert BIG.startswith(mounter.received)


def test_a_refused_upload_says_why(mounter: FakeMounter) -> None:
    with pytest.raises(InvalidArgument, match="extraction point is not a directory"):
        asyncio.run(archives(mounter).put(container(), "/file", blocks(BIG), ExtractOptions()))


def test_a_client_that_breaks_off_is_the_error(mounter: FakeMounter) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError):
        asyncio.run(archives(mounter).put(container(), "/tmp", broken(), ExtractOptions()))


def test_a_read_only_root_takes_files_only_into_its_mounts(mounter: FakeMounter) -> None:
    made = container(host=HostConfig(readonly_rootfs=True))
    made.record.mounts = [MountPoint(type="bind", source="/srv", destination="/srv")]
    with pytest.raises(InvalidArgument, match="container rootfs is marked read-only"):
        asyncio.run(archives(mounter).put(made, "/srv2", blocks(b"x"), ExtractOptions()))
    asyncio.run(archives(mounter).put(made, "/srv/deep", blocks(b"x"), ExtractOptions()))
    assert mounter.received == b"x"


def test_a_container_that_rests_cannot_start_while_it_is_written_to(mounter: FakeMounter) -> None:
    made, locked = container(), []

    async def watched() -> AsyncIterator[bytes]:
        locked.append(made.lock.locked())
        yield b"x"

    asyncio.run(archives(mounter).put(made, "/tmp", watched(), ExtractOptions()))
    assert locked == [True]
    assert not made.lock.locked()


def test_a_container_that_rests_can_start_while_it_is_read(mounter: FakeMounter) -> None:
    made = container()

    async def get() -> bool:
        _, content = await archives(mounter).get(made, "/big")
        locked = made.lock.locked()
        assert b"".join([block async for block in content]) == BIG
        return locked

    assert not asyncio.run(get())


def test_changes_are_handed_on(mounter: FakeMounter) -> None:
    (change,) = asyncio.run(archives(mounter).changes(container())) or []
    assert (change.path, change.kind) == ("/new", 1)
