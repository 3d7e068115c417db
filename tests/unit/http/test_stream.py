"""Streams: half-closes, bytes read too early, and the same with TLS."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trustme

from sampan.http.openssl import OpenSSLContext
from sampan.http.stream import RECORDS, SocketStream, TLSStream
from sampan.http.tls import TLS, TLSContext


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["ssl", "pyOpenSSL"])
def server_context(authority: trustme.CA, request: pytest.FixtureRequest) -> TLSContext:
    issued = authority.issue_cert("localhost")
    if request.param == "pyOpenSSL":
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return OpenSSLContext(TLS(chain, issued.private_key_pem.bytes()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context


def over_tls(
    context: TLSContext,
    authority: trustme.CA,
    serve: Callable[[TLSStream], Awaitable[None]],
    client: Callable[[ssl.SSLSocket], None],
    certificate: trustme.LeafCert | None = None,
) -> None:
    """Run `serve` on one end of a TLS connection and the blocking `client` on the other."""
    ours, theirs = socket.socketpair()
    failures: list[BaseException] = []

    def talk() -> None:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(trust)
        trust.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        if certificate:
            certificate.configure_cert(trust)
        try:
            ours.settimeout(5)
            with trust.wrap_socket(ours, server_hostname="localhost") as sock:
                client(sock)
        except BaseException as error:
            failures.append(error)
        finally:
            ours.close()

    async def main() -> None:
        stream = await TLSStream.accept(SocketStream(theirs), context)
        try:
            await serve(stream)
        finally:
            stream.close()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        asyncio.run(main())
    finally:
        theirs.close()
        thread.join()
    if failures:
        raise failures[0]


def test_bytes_that_were_pushed_back_come_first() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            stream = SocketStream(ours)
            theirs.sendall(b"world")
            stream.push_back(b"hello ")
            assert await stream.receive(3) == b"hel"
            assert await stream.receive() == b"lo "
            assert await stream.receive() == b"world"

    asyncio.run(main())


def test_who_always_has_more_to_read_keeps_nobody_waiting() -> None:
    count = 100

    async def both() -> int:
        near, far = socket.socketpair()
        with near, far:
            far.send(bytes(count))
            stream = SocketStream(near)
            turns = 0

            async def read() -> None:
                for _ in range(count):
                    await stream.receive(1)

            reading = asyncio.create_task(read())
            while not reading.done():
                turns += 1
                await asyncio.sleep(0)
            return turns

    assert asyncio.run(both()) >= count


def test_of_tiny_records_others_need_not_wait_for_all(
    server_context: TLSContext, authority: trustme.CA
) -> None:
    count = 10 * RECORDS
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trust)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")

    async def shake(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
            await loop.sock_sendall(sock, outgoing.read())
            incoming.write(await loop.sock_recv(sock, 1 << 16))
        for _ in range(count):
            client.write(b"x")
        await loop.sock_sendall(sock, outgoing.read())  # all records at once

    async def take(stream: TLSStream) -> list[int]:
        sizes: list[int] = []
        while sum(sizes) < count:
            sizes.append(len(await stream.receive()))
        return sizes

    async def main() -> tuple[list[int], int]:
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            accepting = TLSStream.accept(SocketStream(near), server_context)
            stream, _ = await asyncio.gather(accepting, shake(far))
            taking = asyncio.create_task(take(stream))
            turns = 0
            while not taking.done():
                turns += 1
                await asyncio.sleep(0)
            return await taking, turns

    sizes, turns = asyncio.run(main())
    assert max(sizes) <= RECORDS
    assert turns >= len(sizes) >= count // RECORDS


def test_a_slow_reader_gets_everything() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        payload = bytes(range(256)) * 8192
        with ours, theirs:
            writer, reader = SocketStream(ours), SocketStream(theirs)

            async def write() -> None:
                await writer.send(payload[:1000], payload[1000:])
                await writer.close_write()

            task = asyncio.ensure_future(write())
            got = b""
            while piece := await reader.receive(10000):
                got += piece
            await task
        assert got == payload

    asyncio.run(main())


def test_tls_goes_on_sending_after_the_client_has_closed_its_side(
    authority: trustme.CA, server_context: TLSContext
) -> None:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trust)
    ours, theirs = socket.socketpair()
    received: list[bytes] = []

    def client() -> None:
        """Send close_notify, as Go's tls.Conn.CloseWrite does, and then read on."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def step(call: Callable[[], object]) -> object:
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    ours.sendall(outgoing.read())
                    incoming.write(ours.recv(65536))

        step(tls.do_handshake)
        tls.write(b"stdin")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        ours.sendall(outgoing.read())
        received.append(bytes(step(lambda: tls.read(100))))  # type: ignore[call-overload]

    async def main() -> None:
        stream = await TLSStream.accept(SocketStream(theirs), server_context)
        got = b""
        while piece := await stream.receive():
            got += piece
        await stream.send(b"got " + got)
        await stream.close_write()

    with ours, theirs:
        ours.settimeout(5)
        thread = threading.Thread(target=client)
        thread.start()
        asyncio.run(main())
        thread.join()
    assert received == [b"got stdin"]


def test_tls_goes_on_receiving_after_it_has_closed_its_own_side(
    authority: trustme.CA, server_context: TLSContext
) -> None:
    received: list[bytes] = []

    async def serve(stream: TLSStream) -> None:
        await stream.send(b"the end")
        await stream.close_write()
        received.append(await stream.receive())

    def client(sock: ssl.SSLSocket) -> None:
        assert sock.recv(100) == b"the end"
        assert sock.recv(100) == b""
        sock.sendall(b"still here")

    over_tls(server_context, authority, serve, client)
    assert received == [b"still here"]


def test_tls_carries_large_messages_both_ways_at_once(
    authority: trustme.CA, server_context: TLSContext
) -> None:
    payload = b"0123456789abcdef" * 65536

    async def serve(stream: TLSStream) -> None:
        async def read() -> int:
            size = 0
            while size < len(payload):
                size += len(await stream.receive())
            return size

        reading = asyncio.ensure_future(read())
        await stream.send(payload)
        assert await reading == len(payload)

    def client(sock: ssl.SSLSocket) -> None:
        sock.setblocking(False)  # one thread: an SSL object may not be used by two
        rest, size = memoryview(payload), 0
        while rest or size < len(payload):
            select.select([sock], [sock] if rest else [], [], 5)
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while size < len(payload):
                    chunk = sock.recv(1 << 20)
                    assert chunk, "the stream ended too early"
                    size += len(chunk)
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                rest = rest[sock.send(rest) :]

    over_tls(server_context, authority, serve, client)


@pytest.mark.parametrize("clean", [True, False])
def test_an_end_that_was_meant_is_told_from_one_that_was_not(
    authority: trustme.CA, server_context: TLSContext, clean: bool
) -> None:
    """What has no other end than that of the connection could else be cut by anybody."""

    async def serve(stream: TLSStream) -> None:
        await stream.send(b"the end")
        stream.close(clean)

    def client(sock: ssl.SSLSocket) -> None:
        sock.suppress_ragged_eofs = False
        assert sock.recv(100) == b"the end"
        if clean:
            assert sock.recv(100) == b""
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)eof"):
                sock.recv(100)

    over_tls(server_context, authority, serve, client)


def test_a_client_that_goes_without_a_word_is_at_its_end(
    authority: trustme.CA, server_context: TLSContext
) -> None:
    received: list[bytes] = []

    async def serve(stream: TLSStream) -> None:
        await stream.send(b"go on")
        received.append(await stream.receive())
        received.append(await stream.receive())

    def client(sock: ssl.SSLSocket) -> None:
        assert sock.recv(100) == b"go on"
        sock.sendall(b"half")
        socket.socket(fileno=sock.detach()).close()

    over_tls(server_context, authority, serve, client)
    assert received == [b"half", b""]


def test_a_client_without_the_demanded_certificate_is_refused(
    authority: trustme.CA,
) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_context)

    async def serve(stream: TLSStream) -> None:
        await stream.send(b"welcome")

    def client(sock: ssl.SSLSocket) -> None:
        assert sock.recv(100) == b"welcome"

    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        over_tls(server_context, authority, serve, client)
    over_tls(server_context, authority, serve, client, authority.issue_cert("admin@example.org"))


def test_a_peer_that_is_gone_is_noticed_and_early_bytes_are_kept() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours:
            stream = SocketStream(ours)
            watch = asyncio.ensure_future(stream.hung_up())
            await asyncio.sleep(0)
            theirs.close()
            await asyncio.wait_for(watch, 2)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            stream = SocketStream(ours)
            watch = asyncio.ensure_future(stream.hung_up())
            theirs.sendall(b"next request")
            await asyncio.sleep(0.02)
            assert not watch.done()
            watch.cancel()
            assert await stream.receive() == b"next request"

    asyncio.run(main())
