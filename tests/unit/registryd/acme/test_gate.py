"""The gate: proofs for ACME servers, the way in for all others."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sampan.registryd.acme import gate as module
from sampan.registryd.acme.challenge import IDENTIFIER, PROTOCOL, proof
from sampan.registryd.acme.gate import Gate
from tests.session import PATIENCE


def at_gate(work: Callable[[Gate, int], Awaitable[None]], inner: str = "") -> None:
    """Run `work` with an open gate and its port."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with asyncio.timeout(PATIENCE), Gate(listener, inner) as gate:
                await work(gate, listener.getsockname()[1])

    asyncio.run(main())


def client(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def test_a_proof_is_shown_to_who_asks_for_it() -> None:
    from cryptography import x509

    async def work(gate: Gate, port: int) -> None:
        gate.proofs["a.example.com"] = proof("a.example.com", "token.thumbprint")
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client(PROTOCOL), server_hostname="a.example.com"
        )
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == PROTOCOL
        shown = x509.load_der_x509_certificate(tls.getpeercert(True))
        assert shown.extensions.get_extension_for_oid(IDENTIFIER).critical
        writer.close()

    at_gate(work)


def test_nobody_else_gets_in_before_there_is_a_server() -> None:
    async def work(gate: Gate, port: int) -> None:
        for context, name in ((client("h2"), "a.example.com"), (client(PROTOCOL), "b.example.com")):
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()

    at_gate(work)


def test_others_are_passed_on_and_stay_when_the_gate_is_shut(tmp_path: Path) -> None:
    path = str(tmp_path / "inner")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece.upper())
        writer.write(b" end")
        writer.close()

    async def work(gate: Gate, port: int) -> None:
        async with await asyncio.start_unix_server(echo, path):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"no tls ")
            assert await reader.readexactly(7) == b"NO TLS "
            await gate.shut()
            assert not gate.is_empty
            writer.write(b"at all")
            writer.write_eof()
            assert await reader.read() == b"AT ALL end"
            writer.close()

    at_gate(work, path)


def test_who_says_nothing_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELLO_SECONDS", 0.05)

    async def work(gate: Gate, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        assert await reader.read() == b""
        writer.close()

    at_gate(work)


def test_who_sends_without_a_pause_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 100
    monkeypatch.setattr(module, "PIECE", 1)

    async def work() -> int:
        pairs = socket.socketpair(), socket.socketpair()
        with pairs[0][0] as client, pairs[0][1] as source, pairs[1][0] as target, pairs[1][1]:
            client.send(bytes(count))
            client.shutdown(socket.SHUT_WR)
            for sock in (source, target):
                sock.setblocking(False)
            pumping = asyncio.create_task(module._pump(source, target))
            turns = 0
            while not pumping.done():
                turns += 1
                await asyncio.sleep(0)
        return turns

    assert asyncio.run(work()) >= count
