"""What TLS means to a server: its terms, and who keeps them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol


class Clients(Enum):
    """What is asked of clients, as Go's tls.ClientAuthType has it."""

    NOBODY = "no certificate is asked for"
    REQUEST = "a certificate is asked for; none, and any, will do"
    ANY = "there has to be a certificate and its key; nobody verifies by whom it is"
    IF_GIVEN = "there need be none; one that is shown is verified"
    VERIFY = "there has to be one of the authorities"


@dataclass(frozen=True)
class TLS:
    """How a server speaks TLS. Certificates and keys are PEM, the key is PKCS #8."""

    chain: bytes
    key: bytes
    authorities: bytes = b""  # of clients
    clients: Clients = Clients.NOBODY
    minimum: str = "tls1.2"  # tls1.0 to tls1.3
    # Of TLS 1.2 and before, by OpenSSL's names; empty: ECDHE with AES-GCM or ChaCha20.
    ciphers: Sequence[str] = ()


class TLSSession(Protocol):
    """One side of TLS between two buffers: ssl.SSLObject, or what does the same."""

    def do_handshake(self) -> None: ...

    def read(self, size: int, /) -> bytes: ...

    def write(self, data: bytes | memoryview, /) -> int: ...

    def unwrap(self) -> object: ...

    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...


class TLSContext(Protocol):
    """Makes sessions: ssl.SSLContext, or what does the same."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = ...
    ) -> TLSSession: ...
