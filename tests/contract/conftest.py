"""What several suites of one contract need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan import rpc
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.plumber import Plumber
from tests.netns import Hosts, hosts
from tests.object_storages import Storages
from tests.postgres import Postgres, postgres
from tests.session import PATIENCE


@pytest.fixture
def here() -> Iterator[Hosts]:
    """Network namespaces of a host and of its neighbour; we are on the host."""
    with hosts() as made:
        yield made


@pytest.fixture(params=["library", "helper"])
def plumber(request: pytest.FixtureRequest, here: Hosts, tmp_path: Path) -> Iterator[Plumber]:
    """A plumber of the host `here`, in this process and in its own."""
    if request.param == "library":
        library = LinuxPlumber(tmp_path / "state")
        yield library
        library.close()
        return
    sock, process = rpc.start("sampan.helpers.network", [str(tmp_path / "state")])
    with sock:
        yield rpc.connect(Plumber, sock, PATIENCE)  # type: ignore[type-abstract]
    assert process.wait(PATIENCE) == 0


@pytest.fixture(scope="session")
def storages() -> Iterator[Storages]:
    """Object storages, each of which runs from the first test on that asks for it."""
    with Storages() as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL that the tests of a module share."""
    with postgres() as found:
        yield found
