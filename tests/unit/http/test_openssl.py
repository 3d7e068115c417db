"""TLS that Python's `ssl` has not: who gets in, what is spoken, and what a renewal changes."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from sampan.errors import InvalidArgument
from sampan.http import openssl
from sampan.http.openssl import OpenSSLContext
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.server import Server
from sampan.http.tls import TLS, Clients

OURS, FOREIGN = trustme.CA(), trustme.CA()
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def terms(**rest: Any) -> TLS:
    """Return terms with a certificate of ours, which clients need one of, too."""
    issued = OURS.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return TLS(chain, issued.private_key_pem.bytes(), OURS.cert_pem.bytes(), **rest)


def trusting(version: ssl.TLSVersion = TLS13, *, oldest: bool = False) -> ssl.SSLContext:
    """Return the context of a client that speaks one version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    OURS.configure_trust(context)
    if oldest:
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


def showing(shown: trustme.CA | None, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return the context of a client with a certificate by somebody."""
    context = trusting(version)
    if shown:
        shown.issue_cert("captain@example.org").configure_cert(context)
    return context


@dataclasses.dataclass(frozen=True)
class Greeted:
    """What a client knows of a connection on which it was served."""

    version: str | None
    cipher: str
    protocol: str | None
    serial: object
    resumed: bool | None
    session: ssl.SSLSession | None


async def ahoy(_: Request) -> Response:
    """Answer whoever got in."""
    return Response(200, b"ahoy")


def greet(
    context: OpenSSLContext, *clients: ssl.SSLContext, resumed: ssl.SSLSession | None = None
) -> list[Greeted]:
    """Return what clients saw, each of which was served; raise why one was not."""

    async def main() -> list[Greeted]:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        async with Server(ahoy) as server:
            server.listen(listener, context)
            return [await asyncio.to_thread(_talk, address, one, resumed) for one in clients]

    return asyncio.run(main())


def _talk(address: Any, client: ssl.SSLContext, resumed: ssl.SSLSession | None) -> Greeted:
    with socket.create_connection(address, 10) as sock:
        with client.wrap_socket(sock, server_hostname="localhost", session=resumed) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said = b""
            while piece := tls.recv(1000):
                said += piece
            assert said.endswith(b"ahoy")
            (cipher, _, _), seen = tls.cipher() or ("", "", 0), tls.getpeercert() or {}
            return Greeted(
                *(tls.version(), cipher, tls.selected_alpn_protocol()),
                *(seen["serialNumber"], tls.session_reused, tls.session),
            )


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize(
    ("clients", "without", "foreign"),
    [
        (Clients.NOBODY, True, True),
        (Clients.REQUEST, True, True),
        (Clients.ANY, False, True),
        (Clients.IF_GIVEN, True, False),
        (Clients.VERIFY, False, False),
    ],
)
def test_who_gets_in(
    clients: Clients, without: bool, foreign: bool, version: ssl.TLSVersion
) -> None:
    context = OpenSSLContext(terms(clients=clients))

    def gets_in(shown: trustme.CA | None) -> bool:
        try:
            greet(context, showing(shown, version))
        except OSError:
            return False
        return True

    assert (gets_in(None), gets_in(FOREIGN), gets_in(OURS)) == (without, foreign, True)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content).to_bytes(2, "big")
    return bytes((tag, 0x82)) + size + content


def _integer(number: int) -> bytes:
    return _der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("clients", [Clients.REQUEST, Clients.ANY])
def test_a_certificate_without_its_key_opens_nothing(
    clients: Clients, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """Nobody verifies who has signed a certificate; whose it is, the handshake proves."""
    context = OpenSSLContext(terms(clients=clients))
    stolen, own = (
        FOREIGN.issue_cert("captain@example.org", key_type=trustme.KeyType.RSA) for _ in range(2)
    )
    theirs, mine = (
        load_pem_private_key(one.private_key_pem.bytes(), None) for one in (stolen, own)
    )
    assert isinstance(theirs, rsa.RSAPrivateKey)
    assert isinstance(mine, rsa.RSAPrivateKey)
    known, have = theirs.public_key().public_numbers(), mine.private_numbers()
    have_all = (0, known.n, known.e, have.d, have.p, have.q, have.dmp1, have.dmq1, have.iqmp)
    forged = ssl.DER_cert_to_PEM_cert(_der(0x30, b"".join(map(_integer, have_all))))
    forged = forged.replace("CERTIFICATE", "RSA PRIVATE KEY")
    shown = forged.encode() + stolen.cert_chain_pems[0].bytes()
    (tmp_path / "thief.pem").write_bytes(shown)
    thief = trusting(version)
    thief.load_cert_chain(tmp_path / "thief.pem")
    with pytest.raises(OSError, match=r"(?i)alert|reset"):
        greet(context, thief)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_chain_that_nobody_verifies_costs_nothing(
    version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of authorities may be slow ones, 6 ms each, and a chain has room for seventy."""
    depths: list[int] = []

    def take_any(_: object, __: object, ___: int, depth: int, ____: int) -> bool:
        depths.append(depth)
        return True

    monkeypatch.setattr(openssl, "_take_any", take_any)
    authority = FOREIGN
    for _ in range(6):
        authority = authority.create_child_ca()
    greet(OpenSSLContext(terms(clients=Clients.ANY)), showing(authority, version))
    assert max(depths) <= 1


@pytest.mark.parametrize(
    "cipher", ["ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA", "AES128-SHA"]
)
def test_of_tls_1_2_only_what_is_listed_is_spoken(cipher: str) -> None:
    context = OpenSSLContext(terms(ciphers=[cipher]))
    (spoken,) = greet(context, trusting(TLS12))
    assert (spoken.version, spoken.cipher) == ("TLSv1.2", cipher)
    other = trusting(TLS12)
    other.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        greet(context, other)
    (spoken,) = greet(context, trusting(TLS13))  # whose suites nobody chooses
    assert spoken.version == "TLSv1.3"


def test_without_a_list_what_is_safe_is_spoken() -> None:
    weak = trusting(TLS12)
    weak.set_ciphers("ECDHE-RSA-AES128-SHA:AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256")
    context = OpenSSLContext(terms(clients=Clients.REQUEST))
    with pytest.raises(ssl.SSLError):
        greet(context, weak)
    assert greet(context, trusting(TLS12))[0].cipher == "ECDHE-RSA-AES256-GCM-SHA384"


def test_versions_of_before_are_spoken_where_they_are_wanted() -> None:
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        old = trusting(ssl.TLSVersion.TLSv1, oldest=True)
    ciphers = ["ECDHE-RSA-AES128-SHA"]
    wanted = OpenSSLContext(terms(ciphers=ciphers, minimum="tls1.0"))
    assert greet(wanted, old)[0].version == "TLSv1"
    for minimum in ("tls1.1", "tls1.2"):
        with pytest.raises(OSError):
            greet(OpenSSLContext(terms(ciphers=ciphers, minimum=minimum)), old)
    with pytest.raises(OSError):
        greet(OpenSSLContext(terms(minimum="tls1.3")), trusting(TLS12))


def test_http_1_1_is_all_that_is_offered() -> None:
    context = OpenSSLContext(terms())
    chooses, wants = trusting(), trusting()
    chooses.set_alpn_protocols(["h2", "http/1.1"])
    assert [one.protocol for one in greet(context, chooses, trusting())] == ["http/1.1", None]
    wants.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        greet(context, wants)


def test_clients_are_told_whose_certificates_are_wanted() -> None:
    """Those of Go show none of an authority that was not named."""
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = OpenSSLContext(terms(clients=Clients.ANY)).wrap_bio(incoming, outgoing)
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    incoming.write(client.bio_read(65536))
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    client.bio_write(outgoing.read())
    client.do_handshake()
    assert [name.O for name in client.get_client_ca_list()] == [f"trustme v{trustme.__version__}"]


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_new_terms_are_for_all_who_come_then_also_for_those_who_were_here(
    version: ssl.TLSVersion,
) -> None:
    context = OpenSSLContext(terms(clients=Clients.ANY))
    foreign = showing(FOREIGN, version)
    (first,) = greet(context, foreign)
    (again,) = greet(context, foreign, resumed=first.session)
    assert again.resumed
    assert again.serial == first.serial
    context.renew(terms(clients=Clients.VERIFY))
    with pytest.raises(OSError, match=r"(?i)alert|reset"):
        greet(context, foreign, resumed=again.session)
    (ours,) = greet(context, showing(OURS, version))
    assert ours.serial != first.serial


def test_what_does_not_go_together_is_refused_and_changes_nothing() -> None:
    good, other = terms(), terms()
    context = OpenSSLContext(good)
    for broken in (
        dataclasses.replace(good, key=other.key),
        dataclasses.replace(good, chain=b"x"),
        dataclasses.replace(good, ciphers=["NONSENSE"]),
        dataclasses.replace(good, clients=Clients.ANY, authorities=b"x"),
    ):
        with pytest.raises(InvalidArgument, match="TLS: "):
            context.renew(broken)
    assert greet(context, trusting())


def test_a_client_that_speaks_no_tls_or_nothing_harms_nobody() -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        async with Server(ahoy) as server:
            server.listen(listener, OpenSSLContext(terms()))
            mute = socket.create_connection(address)
            with socket.create_connection(address, 10) as plain, mute:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"ahoy" not in await asyncio.to_thread(plain.recv, 100)
                assert await asyncio.to_thread(_talk, address, trusting(), None)

    asyncio.run(main())
