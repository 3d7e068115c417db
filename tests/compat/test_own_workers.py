"""Several registries of ours on one folder and one PostgreSQL, with real clients and bad days."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Postgres, postgres
from tests.registries import OURS, Registry, registry
from tests.remote_images import busybox, image, push, small_layer

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def workers(namespace: str, database: Postgres, tmp_path: Path) -> Iterator[list[Registry]]:
    address = database.database()
    with ExitStack() as stack:

        def work(name: str) -> Registry:
            more: dict[str, Any] = {"metadata": {"postgresql": address, "worker": name}}
            storage = tmp_path / "storage"
            return stack.enter_context(
                registry(namespace, storage=storage, program=OURS, more=more)
            )

        yield [work("one"), work("two")]


def skopeo(namespace: str, *words: str) -> None:
    enter = ["nsenter", f"--net=/run/netns/{namespace}"]
    subprocess.run([*enter, "skopeo", *words], check=True, timeout=60, capture_output=True)


def test_what_one_is_given_the_other_has(namespace: str, workers: list[Registry]) -> None:
    one, two = workers
    push(one, "team/app", "1", busybox(small_layer("note")))
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    source, target = f"{two.address}/team/app:1", f"{two.address}/team/b:2"
    skopeo(namespace, "copy", *flags, f"docker://{source}", f"docker://{target}")
    assert one.tags("team/b") == ["2"]
    location = one.ask("POST", "/v2/team/app/blobs/uploads/").headers["Location"]
    place = location.partition(one.address)[2]
    assert two.ask("PATCH", place, b"half").status == 202
    assert one.ask("GET", place).headers["Range"] == "0-3"


def test_one_that_is_killed_keeps_nobody_waiting(workers: list[Registry]) -> None:
    one, two = workers
    acknowledged: dict[str, str] = {}
    pid = one.process.pid if one.process else 0
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -9 {pid}"])
    try:
        for number in range(200):
            item = image(small_layer(f"{number}"))
            push(one, "team/app", f"{number}", item)
            acknowledged[f"{number}"] = item.digest
    except (OSError, HTTPException):
        pass
    killer.wait()
    assert set(acknowledged) <= set(two.tags("team/app"))
    push(two, "team/app", "more", busybox())
    one.restart()
    assert set(one.tags("team/app")) == set(two.tags("team/app")) >= {*acknowledged, "more"}


def test_a_database_that_is_killed_is_told_and_comes_back(
    workers: list[Registry], database: Postgres
) -> None:
    one, two = workers
    push(one, "team/app", "1", busybox())
    database.stop()
    for hub in workers:
        reply = hub.ask("GET", "/v2/team/app/tags/list")
        assert (reply.status, reply.json["errors"][0]["code"]) == (503, "UNAVAILABLE")
        assert "database" in reply.json["errors"][0]["message"]
    database.start()
    push(two, "team/app", "2", busybox(small_layer("x")))
    assert one.tags("team/app") == ["1", "2"]
