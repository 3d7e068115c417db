from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux.dbus import (
    ERROR,
    REPLY,
    SIGNAL,
    Connection,
    DBusError,
    Reader,
    Variant,
    Writer,
    call,
)


def message(kind: int, fields: list[tuple[int, str, object]], signature: str, *body: str) -> bytes:
    """Pack what a server sends: strings as body."""
    content, head = Writer(), Writer()
    for each in body:
        content.string(each)
    head.data += bytes([ord("l"), kind, 0, 1])
    for number in (len(content.data), 1, 0):
        head.number("I", number)
    for code, type_, value in [*fields, (8, "g", signature)]:
        head.align(8)
        head.number("B", code)
        head.signature(type_)
        head.signature(str(value)) if type_ == "g" else head.value(type_, value)
    head.data[12:16] = (len(head.data) - 16).to_bytes(4, "little")
    head.align(8)
    return bytes(head.data + content.data)


def serve(path: Path, *answers: bytes) -> threading.Thread:
    """Let one client in, read its call, and send the answers, in two parts each."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        with listener, listener.accept()[0] as client:
            assert client.recv(100).startswith(b"\0AUTH EXTERNAL ")
            client.sendall(b"OK 0123\r\n")
            client.recv(1 << 16)
            for answer in answers:
                client.sendall(answer[:20])
                client.sendall(answer[20:])
            client.recv(1 << 16)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


JOB = message(REPLY, [(5, "u", 1)], "o", "/job/7")
REMOVED = message(SIGNAL, [(3, "s", "JobRemoved")], "ss", "/job/7", "done")


def test_a_call_has_its_reply_and_the_signals_before(tmp_path: Path) -> None:
    thread = serve(tmp_path / "socket", REMOVED, JOB)
    with Connection(str(tmp_path / "socket"), 5) as connection:
        reply, signals = connection.call("/o", "i.face", "Do", [("s", "x")])
    thread.join()
    assert reply.values() == ["/job/7"]
    assert [(each.member, each.values()) for each in signals] == [
        ("JobRemoved", ["/job/7", "done"])
    ]


def test_an_error_has_its_name(tmp_path: Path) -> None:
    answer = message(ERROR, [(4, "s", "org.x.Exists"), (5, "u", 1)], "s", "it is there")
    thread = serve(tmp_path / "socket", answer)
    with Connection(str(tmp_path / "socket"), 5) as connection:
        with pytest.raises(DBusError, match="it is there") as failed:
            connection.call("/o", "i.face", "Do", [])
    thread.join()
    assert failed.value.name == "org.x.Exists"


def test_a_peer_that_goes_is_an_error(tmp_path: Path) -> None:
    thread = serve(tmp_path / "socket", b"l" * 20)
    with Connection(str(tmp_path / "socket"), 5) as connection, pytest.raises(OSError):
        connection.call("/o", "i.face", "Do", [])
    thread.join()


def test_properties_are_laid_out_as_the_specification_says() -> None:
    writer = Writer()
    writer.value("a(sv)", [("A", Variant("b", True)), ("B", Variant("au", [7]))])
    assert bytes(writer.data) == (
        (36).to_bytes(4, "little")
        + bytes(4)
        + b"\x01\0\0\0A\0\x01b\0\0\0\0\x01\0\0\0"
        + b"\x01\0\0\0B\0\x02au\0\0\0\x04\0\0\0\x07\0\0\0"
    )


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))))
def test_strings_read_back(texts: list[str]) -> None:
    writer = Writer()
    for text in texts:
        writer.string(text)
    reader = Reader(bytes(writer.data))
    assert [reader.string() for _ in texts] == texts


def test_a_call_is_aligned() -> None:
    assert len(call(1, "/o", "i.face", "Do", [])) % 8 == 0
