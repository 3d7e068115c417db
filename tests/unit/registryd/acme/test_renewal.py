"""Certificates come by real challenges, and new ones while clients are served."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import Unavailable
from sampan.registryd.acme import renewal
from sampan.registryd.acme.folder import Folder
from sampan.registryd.acme.orders import Account
from sampan.registryd.acme.renewal import Renewal, probe
from tests.acme_server import AcmeServer, acme_server

HOSTS = ["one.example.com", "two.example.com"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.setblocking(False)
        yield found


@pytest.fixture
def acme(listener: socket.socket) -> Iterator[AcmeServer]:
    with acme_server(looks_at=listener.getsockname()) as found:
        yield found


def first(acme: AcmeServer, listener: socket.socket, path: Path, hosts: list[str]) -> Folder:
    folder = Folder(path, hosts)

    async def main() -> None:
        account = Account(acme.directory, "me@example.com")
        async with Renewal(account, folder, hosts, listener) as found:
            await found.first()

    asyncio.run(main())
    return folder


def test_the_first_certificate_comes_before_anything_is_served(
    acme: AcmeServer, listener: socket.socket, tmp_path: Path
) -> None:
    folder = first(acme, listener, tmp_path, HOSTS)
    found = folder.certificate()
    assert found
    assert found.hosts == set(HOSTS)
    assert sorted(acme.looks) == HOSTS
    first(acme, listener, tmp_path, HOSTS)  # it is still there
    assert len(acme.orders) == 1


def test_an_account_is_used_again(
    acme: AcmeServer, listener: socket.socket, tmp_path: Path
) -> None:
    folder = first(acme, listener, tmp_path, HOSTS)
    folder.certificate_path.unlink()
    first(acme, listener, tmp_path, HOSTS)
    assert len(acme.accounts) == 1
    assert len(acme.orders) == 2


def test_a_refusal_is_told_and_tried_again(
    acme: AcmeServer,
    listener: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    acme.refuse = "CAA forbids it"

    def relent(_: object) -> float:
        acme.refuse = ""
        return 0.0

    monkeypatch.setattr(Renewal, "_pause", relent)
    folder = first(acme, listener, tmp_path, HOSTS[:1])
    assert folder.certificate()
    assert "one.example.com: " in caplog.text
    assert "CAA forbids it" in caplog.text


def test_a_server_that_is_away_is_told(listener: socket.socket, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Account("http://127.0.0.1:9/directory", "").order(
            Folder(tmp_path, HOSTS), HOSTS, lambda _: None
        )


def test_pauses_grow_after_failures() -> None:
    with socket.socket() as sock:
        found = Renewal(Account("", ""), Folder(Path("/var/tmp"), HOSTS), HOSTS, sock)
        pauses = []
        for found._failures in (1, 2, 5, 40):
            pauses.append(found._pause())
    assert pauses[0] <= 60.0 < pauses[1] <= 120.0 < pauses[2] < pauses[3] <= 12 * 3600.0


def test_nobody_is_sent_to_a_socket_where_no_gate_is(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "PROBE_SECONDS", 0.0)
    listener.close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()
    monkeypatch.setattr(renewal, "_own_address", lambda _: address)
    with pytest.raises(Unavailable, match="do not reach us"):
        probe(listener, HOSTS[0])
