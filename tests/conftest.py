"""Fixtures for every kind of test."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest

from sampan.engine import blocking as crossing
from tests import kernels, reaper, session
from tests.daemon import Daemon, running
from tests.filesystems import Shop
from tests.session import eventually, network

# No time is asserted: on a busy machine any example may take long.
hypothesis.settings.register_profile("sampan", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("sampan")

network_before = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """End in order at SIGTERM: fixtures take away what tests have made."""
    if os.environ.get("CI") and os.geteuid() == 0 and not hasattr(config, "workerinput"):
        config.stash[network_before] = network()  # nobody else changes it here
    # In the background of a shell it is ignored, which programs that tests start would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if it leaves anything in the machine's own network namespace."""
    before = session.config.stash.get(network_before, None)
    if before is None:
        return
    with contextlib.suppress(AssertionError):  # another session may be in the middle of something
        eventually(lambda: not network() - before)
    if left := sorted(network() - before):
        print(f"\nleft in the network of the machine: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that `./check --slow` hands on."""
    text = "also run the widest sets of tests, and those marked `kernel` on a Debian under qemu"
    parser.addoption("--slow", action="store_true", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, an emulated machine, a feature of the kernel, or root."""
    if not config.getoption("--slow"):
        long = [
            item
            for item in items
            if item.get_closest_marker("emulated") or item.get_closest_marker("wide")
        ]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    for item in items:
        if lacks := kernels.missing(item):
            reason = f"{kernels.LACKS} {', '.join(lacks)}: ./check --slow has one"
            item.add_marker(pytest.mark.skip(reason=reason))
    if os.geteuid() == 0:
        return
    reason = pytest.mark.skip(reason="needs root: namespaces, mounts and cgroups")
    for item in items:
        if item.get_closest_marker("privileged"):
            item.add_marker(reason)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Take back what a program that ran in this process has made of the log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for added in set(root.handlers) - set(handlers):
        root.removeHandler(added)
    root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session if it leaves anything on the machine; each worker is a session."""
    os.environ[session.VARIABLE] = session.TOKEN
    session.temporary.append(f"{tmp_path_factory.getbasetemp()}/")
    with reaper.beside():
        yield
    with contextlib.suppress(AssertionError):  # helpers end a moment after their daemon
        session.eventually(lambda: not session.left())
    assert session.left() == []


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    """End the threads of the pool: a test may need a process that has one thread only."""
    yield
    if crossing._pool._threads:
        crossing._pool.shutdown()
        crossing._pool = ThreadPoolExecutor(crossing.THREADS, thread_name_prefix="blocking")


@pytest.fixture(scope="session")
def filesystems() -> Iterator[Shop]:
    """File systems of their own, made in files when they are asked for."""
    with contextlib.ExitStack() as stack:
        yield Shop(stack)


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[Daemon]:
    """One daemon for the whole session; use `daemon`, which tidies up after each test."""
    with running() as daemon:
        yield daemon


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """A running daemon without containers and volumes."""
    shared_daemon.import_image()
    yield shared_daemon
    shared_daemon.remove_containers()
    shared_daemon.remove_volumes()
