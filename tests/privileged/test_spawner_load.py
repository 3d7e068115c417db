"""Floods, slow clients, full disks, many containers: none of them harms the others."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.runtime.spawner import Streams
from sampan.spec.names import new_id
from tests.session import eventually
from tests.spawner import JSON, PATIENCE, Client, Harness, readable, running

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

SILENT = Streams()


@pytest.fixture(scope="module")
def shared() -> Iterator[Harness]:
    with running() as harness:
        yield harness


@pytest.fixture
def spawner(shared: Harness) -> Iterator[Harness]:
    yield shared
    for container in shared.ids:
        for task in shared.spawner.tasks(container):
            if task.state != "stopped":
                shared.spawner.signal(container, signal=signal.SIGKILL, all=True)
                break


def switches(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if "ctxt_switches" in line]


def test_an_idle_spawner_never_wakes(spawner: Harness) -> None:
    spawner.start("/bin/sleep", "1000")
    client = spawner.attach(spawner.ids[-1], stdin=True)

    def rests() -> bool:
        before = switches(spawner.keeper()), switches(spawner.forker())
        time.sleep(1)
        return (switches(spawner.keeper()), switches(spawner.forker())) == before

    eventually(rests)  # at first it has its start to do
    client.sock.close()


def test_a_flood_does_not_silence_another_container(spawner: Harness) -> None:
    streams = Streams(log_driver="json-file")
    for _ in range(3):
        spawner.start("/bin/yes", "flood", streams=streams)
    container = new_id()
    client = spawner.attach(container, stdin=True)
    spawner.start("/bin/cat", streams=Streams(open_stdin=True), id=container)
    for number in range(20):
        client.sock.sendall(b"ping %d\n" % number)
        assert client.until(b"\n").endswith(b"ping %d\n" % number)
    client.sock.close()


def test_a_slow_client_slows_the_program_and_loses_nothing(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container)
    spawner.start("/bin/seq", "1", "500000", streams=SILENT, id=container)
    assert not readable(spawner.started[-1].pidfd, 0.5)  # it waits for us
    expected = b"".join(b"%d\n" % number for number in range(1, 500_001))
    assert client.streams()[1] == expected
    assert spawner.end(container).exit_code == 0


def test_a_client_that_leaves_sets_the_program_free(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container)
    spawner.start("/bin/seq", "1", "500000", streams=SILENT, id=container)
    assert not readable(spawner.started[-1].pidfd, 0.3)
    client.sock.close()
    assert readable(spawner.started[-1].pidfd, PATIENCE)


def test_a_client_that_never_reads_does_not_hold_up_the_end(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container)
    spawner.start("/bin/seq", "1", "500000", streams=SILENT, id=container)
    assert select.select([client.sock], [], [], PATIENCE)[0]
    spawner.spawner.signal(container, signal=signal.SIGKILL)
    assert spawner.end(container).exit_code == 137
    assert client.rest()  # what was sent before is still there, and then the end


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with running() as spawner:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", spawner.data_root / "containers"],
            check=True,
        )
        try:
            streams = Streams(log_driver="local")
            container = spawner.start("/bin/seq", "1", "300000", streams=streams)
            assert spawner.end(container).exit_code == 0
            numbers = [int(line) for line in spawner.logged(container, "local").splitlines()]
            assert 50_000 < len(numbers) < 300_000
            assert numbers == sorted(set(numbers))
            assert spawner.log.count("are lost") == 1
        finally:
            subprocess.run(["umount", spawner.data_root / "containers"], check=True)


def test_long_lines_are_logged_to_the_last_byte(spawner: Harness) -> None:
    line = "x" * 7999
    container = spawner.start("/bin/sh", "-c", f"yes {line} | head -n 2000", streams=JSON)
    assert spawner.end(container).exit_code == 0
    assert spawner.logged(container) == f"{line}\n".encode() * 2000


def memory(spawner: Harness) -> int:
    """Return the memory of both halves that is in no file, in kilobytes.

    Of files, other programs of the machine bear a part, as long as they run.
    """
    total = 0
    for pid in (spawner.keeper(), spawner.forker()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                total += int(line.split()[1])
    return total


def test_one_more_idle_container_costs_tens_of_kilobytes(spawner: Harness) -> None:
    for _ in range(3):
        spawner.end(spawner.start("/bin/true"))
    before = memory(spawner)
    for _ in range(40):
        spawner.start("/bin/sleep", "1000")
    assert (memory(spawner) - before) / 40 < 60


def test_many_clients_come_and_go(spawner: Harness) -> None:
    container = new_id()
    spawner.start("/bin/cat", streams=Streams(open_stdin=True), id=container)
    keeper = spawner.keeper()
    first = spawner.attach(container, stdin=True)
    first.sock.sendall(b"here\n")
    first.until(b"here\n")
    before = len(os.listdir(f"/proc/{keeper}/fd"))
    clients: list[Client] = [spawner.attach(container, stdin=True) for _ in range(50)]
    for client in clients[:25]:
        client.sock.close()
    for client in clients[25:]:
        client.sock.shutdown(socket.SHUT_RDWR)
        client.sock.close()
    last = spawner.attach(container, stdin=True)
    last.sock.sendall(b"done\n")
    last.until(b"done\n")
    last.sock.close()
    eventually(lambda: len(os.listdir(f"/proc/{keeper}/fd")) == before)
    first.sock.close()
