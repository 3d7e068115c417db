"""Folders of clients that tell the truth, change their minds, and lie."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from sampan.api.buildkit.filesync import Folder, fetch
from sampan.api.buildkit.sessions import SYNC, Session
from sampan.build.files.tree import Spool, Tree, walk
from sampan.errors import InvalidArgument, NotFound, SampanError, Unavailable
from sampan.http.grpc import connected, serve
from sampan.http.stream import SocketStream
from sampan.spec.buildkit.session_pb2 import Packet, Stat
from tests.buildkit import Folders

STAT, DATA, FIN = Packet.PACKET_STAT, Packet.PACKET_DATA, Packet.PACKET_FIN


class Script:
    """A client that says what it was told to say, whatever it is asked."""

    def __init__(self, *packets: Packet) -> None:
        self.packets = packets

    def __mapping__(self) -> dict[str, Handler]:
        return {SYNC: Handler(self.sync, Cardinality.STREAM_STREAM, Packet, Packet)}

    async def sync(self, stream: Stream[Any, Any]) -> None:
        for packet in self.packets:
            await stream.send_message(packet)
        while await stream.recv_message() is not None:
            pass


def fetched(client: Any, folder: Folder, look: Callable[[Tree], Any] = lambda _: None) -> Any:
    """Fetch a folder; return what `look` makes of the tree."""

    async def run() -> Any:
        one, other = socket.socketpair()
        ours, theirs = SocketStream(one), SocketStream(other)
        task = asyncio.ensure_future(serve(theirs, [client]))
        spool = Spool(os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR))
        try:
            async with connected(ours) as (channel, _), asyncio.timeout(20):
                session = Session("s", channel, frozenset(it.lower() for it in [SYNC]))
                tree = Tree(spool)
                await fetch(session, folder, tree)
                return look(tree)
        finally:
            spool.close()
            task.cancel()
            await asyncio.wait([task])
            ours.close()
            theirs.close()

    return asyncio.run(run())


def contents(tree: Tree) -> dict[bytes, Any]:
    return {path: tree.spool.read(file) for path, file in walk(tree.root) if file.kind == b"0"}


def test_a_folder_arrives_as_it_is(tmp_path: Path) -> None:
    big = os.urandom(300_000)
    (tmp_path / "a").mkdir(mode=0o750)
    (tmp_path / "a" / "big").write_bytes(big)
    (tmp_path / "a" / "tool").write_bytes(b"#!")
    (tmp_path / "a" / "tool").chmod(0o755)
    (tmp_path / "empty").touch()
    (tmp_path / "ünï").write_text("x")
    (tmp_path / "hard").hardlink_to(tmp_path / "a" / "big")
    (tmp_path / "link").symlink_to("a/tool")
    os.mkfifo(tmp_path / "pipe")

    def look(tree: Tree) -> None:
        assert contents(tree) == {
            b"a/big": big, b"a/tool": b"#!", b"empty": b"", b"hard": big, "ünï".encode(): b"x",
        }  # fmt: skip
        assert tree.find(b"a").mode == 0o750
        assert tree.find(b"link") is tree.find(b"a/tool")
        assert tree.find(b"a/tool").mode == 0o755
        assert tree.find(b"pipe").kind == b"6"
        assert tree.find(b"hard") is tree.find(b"a/big")

    fetched(Folders({"context": tmp_path}), Folder("context"), look)


def test_equal_contents_have_equal_digests_however_they_came(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")

    def look(tree: Tree) -> tuple[bytes, bytes, int, int]:
        one, other = tree.find(b"a"), tree.find(b"b")
        return one.digest, other.digest, one.at, other.at

    one, other, first, second = fetched(Folders({"c": tmp_path}), Folder("c"), look)
    assert one == other
    assert first != second


def test_patterns_of_any_letters_reach_the_client(tmp_path: Path) -> None:
    client = Folders({"context": tmp_path})
    fetched(client, Folder("context", exclude=["*.o", "ü ber", "50%"], follow=["a b"]))
    [asked] = client.asked
    assert asked["exclude-patterns"] == ["%2A.o", "%C3%BC+ber", "50%25"]
    assert asked["exclude-patterns-encoded"] == ["1"]
    assert asked["followpaths"] == ["a b"]


def stat(path: str, size: int = 0, **fields: Any) -> Packet:
    return Packet(type=STAT, stat=Stat(path=path, mode=0o644, size=size, **fields))


END = Packet(type=STAT)


@pytest.mark.parametrize(
    ("packets", "kind", "sentence"),
    [
        ([stat("../up", 1), END], InvalidArgument, "invalid path in archive: '../up'"),
        ([stat("a", -1), END], InvalidArgument, "a: -1 is no size of a file"),
        ([stat("a", 1 << 60), END], InvalidArgument, "is no size of a file"),
        ([stat("a", 0, linkname="b"), END], InvalidArgument, "'a' to what it does not have"),
        ([stat("a", 2), END, Packet(type=DATA, ID=0, data=b"abc")], InvalidArgument,
         "a: file changed while it was sent"),
        ([stat("a", 2), END, Packet(type=DATA, ID=0, data=b"a"), Packet(type=DATA, ID=0)],
         InvalidArgument, "a: file changed while it was sent"),
        ([stat("a", 2), END, Packet(type=DATA, ID=7, data=b"a")], InvalidArgument,
         "a file that it was not asked for"),
        ([stat("a", 0), END, Packet(type=DATA, ID=0, data=b"a")], InvalidArgument,
         "a file that it was not asked for"),
        ([stat("a", 2), END, Packet(type=FIN)], InvalidArgument,
         "the client ended before all of its files were there"),
        ([stat("a"), Packet(type=FIN)], InvalidArgument,
         "the client ended before all of its files were there"),
        ([stat("a"), END, stat("b", 1), Packet(type=FIN)], InvalidArgument,
         "the client names more files after the last one"),
        ([Packet(type=Packet.PACKET_ERR, data=b"disk on fire")], InvalidArgument, "disk on fire"),
    ],
)  # fmt: skip
def test_a_client_that_lies_is_told_so(
    packets: list[Packet], kind: type[SampanError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        fetched(Script(*packets), Folder("context"))


def test_a_socket_in_a_folder_is_left_out() -> None:
    sock = Packet(type=STAT, stat=Stat(path="s", mode=1 << 24 | 0o777))
    packets = sock, stat("z"), END, Packet(type=FIN)
    assert fetched(Script(*packets), Folder("c"), lambda tree: list(tree.root.children)) == [b"z"]


def test_modes_of_go_are_translated() -> None:
    sticky = Packet(type=STAT, stat=Stat(path="t", mode=1 << 31 | 1 << 20 | 0o777))
    setuid = Packet(type=STAT, stat=Stat(path="u", mode=1 << 23 | 1 << 22 | 0o755, uid=7, gid=8))
    device = Stat(path="v", mode=1 << 26 | 1 << 21 | 0o600, devmajor=1, devminor=3)

    def look(tree: Tree) -> list[tuple[bytes, int, int, tuple[int, int]]]:
        return [(it.kind, it.mode, it.uid, it.device) for it in tree.root.children.values()]

    packets = sticky, setuid, Packet(type=STAT, stat=device), END, Packet(type=FIN)
    assert fetched(Script(*packets), Folder("c"), look) == [
        (b"5", 0o1777, 0, (0, 0)),
        (b"0", 0o6755, 0, (0, 0)),
        (b"3", 0o600, 0, (1, 3)),
    ]


def test_a_folder_that_is_not_served_is_named() -> None:
    with pytest.raises(NotFound, match='no access allowed to dir "x"'):
        fetched(Folders({}), Folder("x"))


def test_a_client_that_serves_no_files_is_told_so() -> None:
    async def run() -> None:
        session: Any = Session("s", None, frozenset())  # type: ignore[arg-type]
        await fetch(session, Folder("x"), Tree(Spool(-1)))

    with pytest.raises(NotFound, match="no local sources enabled"):
        asyncio.run(run())


def test_names_that_are_no_text_are_refused() -> None:
    class Latin(Script):
        async def sync(self, stream: Stream[Any, Any]) -> None:
            raw = stat("ab").SerializeToString().replace(b"ab", b"\xe9b")
            await stream._stream.send_data(b"\0" + len(raw).to_bytes(4, "big") + raw)
            await stream.recv_message()

    with pytest.raises(InvalidArgument, match="what is no message of file sync"):
        fetched(Latin(), Folder("c"))


def test_a_full_disk_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "put", full)
    with pytest.raises(Unavailable, match="cannot keep a: No space left on device"):
        fetched(Script(stat("a", 2), END, Packet(type=DATA, ID=0, data=b"ab")), Folder("c"))


def test_a_client_that_goes_in_the_middle_ends_the_transfer() -> None:
    class Leaving(Script):
        async def sync(self, stream: Stream[Any, Any]) -> None:
            await stream.send_message(stat("a", 5))

    with pytest.raises(Unavailable, match="the client has ended its session"):
        fetched(Leaving(), Folder("c"))
