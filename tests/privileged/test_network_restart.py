"""Networks of the engine on the kernel: what a restarted daemon finds and keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.database import Database
from sampan.engine.networks.networks import NetworkOptions, Networks, Wish
from sampan.network.linux_plumber import LinuxPlumber
from sampan.spec.docker.networks import NetworkCreateRequest, PortBinding
from tests.netns import HOST, NEIGHBOUR, Hosts, ask_tcp, hosts, links, tcp_server
from tests.one_thread import block_here

pytestmark = pytest.mark.privileged

WISH = Wish(
    container_id="c" * 64,
    name="web",
    hostname="web",
    port_bindings={"80/tcp": [PortBinding(host_port="8080")]},
)


class Daemon:
    """The network's part of one: it can be ended without a goodbye, and started again.

    The plumber is called from this thread: pool threads are in the machine's own namespace.
    """

    def __init__(self, folder: Path, options: NetworkOptions | None = None) -> None:
        self.database = Database(folder / "database.sqlite")
        self.plumber = LinuxPlumber(folder / "state")
        self.networks = Networks(self.database, self.plumber, options)

    def close(self) -> None:
        self.plumber.close()
        self.database.close()


@pytest.fixture(autouse=True)
def _in_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    block_here(monkeypatch, "sampan.engine.networks")


@pytest.fixture
def here() -> Iterator[Hosts]:
    with hosts() as made:
        yield made


def test_a_restart_keeps_range_address_and_ports_of_what_runs(here: Hosts, tmp_path: Path) -> None:
    first = Daemon(tmp_path)
    asyncio.run(first.networks.start([]))
    asyncio.run(first.networks.create(NetworkCreateRequest(name="backend")))
    before = asyncio.run(first.networks.list({}))
    connection = asyncio.run(first.networks.connect(WISH))
    assert connection.namespace is not None
    first.close()
    with connection.namespace as namespace, tcp_server(namespace.number, 80):
        second = Daemon(tmp_path)
        asyncio.run(second.networks.start([WISH]))
        assert second.networks.settings(WISH.container_id) == connection.settings
        assert [(it.id, it.ipam) for it in asyncio.run(second.networks.list({}))] == [
            (it.id, it.ipam) for it in before
        ]
        assert ask_tcp(here.neighbour, HOST, 8080) == NEIGHBOUR
        asyncio.run(second.networks.disconnect(WISH.container_id))
        with pytest.raises(OSError):
            ask_tcp(here.neighbour, HOST, 8080, timeout=0.3)
        second.close()


def test_what_ended_meanwhile_is_taken_away(here: Hosts, tmp_path: Path) -> None:
    first = Daemon(tmp_path)
    asyncio.run(first.networks.start([]))
    connection = asyncio.run(first.networks.connect(WISH))
    assert connection.namespace is not None
    connection.namespace.close()
    first.close()
    second = Daemon(tmp_path)
    asyncio.run(second.networks.start([]))
    assert second.plumber.endpoints() == []
    again = asyncio.run(second.networks.connect(WISH))  # the port is free
    assert again.namespace is not None
    again.namespace.close()
    second.close()


def test_another_name_of_the_default_bridge_replaces_it(here: Hosts, tmp_path: Path) -> None:
    first = Daemon(tmp_path)
    asyncio.run(first.networks.start([]))
    first.close()
    second = Daemon(tmp_path, NetworkOptions(bridge="other0"))
    asyncio.run(second.networks.start([]))
    assert "other0" in links()
    assert "sampan0" not in links()
    second.close()
    third = Daemon(tmp_path, NetworkOptions(bridge="none"))
    asyncio.run(third.networks.start([]))
    assert "other0" not in links()
    third.close()
