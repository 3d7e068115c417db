"""The audit log: what is written down, across renames and restarts, and what is found out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sampan.registry.auth.htpasswd import Htpasswd
from sampan.registry.observability.audit import Audited, AuditLog, verify
from sampan.registry.registry import Registry
from tests.own_registry import Shop, manifest, serving, sha

KEY = b"k" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def audit(path: Path) -> Iterator[AuditLog]:
    found = AuditLog(path, KEY)
    yield found
    found.close()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def broken(*paths: Path, key: bytes = KEY) -> list[tuple[str, int]]:
    return [(place.path.name, place.line) for place in verify(paths, key)]


def test_what_was_written_verifies_with_the_key_alone(audit: AuditLog, path: Path) -> None:
    for number in range(5):
        audit.write("push", user=f"user {number}\n\x9b2J\u2028", repository='team/"app')
    assert [r["action"] for r in records(path)] == ["push"] * 5
    assert records(path)[0]["user"] == "user 0\n\x9b2J\u2028"
    assert path.read_text().replace("\n", "").isascii()  # terminals obey no line of it
    assert broken(path) == []
    assert broken(path, key=b"other") != []
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", range(4))
def test_a_line_that_was_changed_taken_out_or_moved_is_found(
    audit: AuditLog, path: Path, line: int
) -> None:
    for number in range(5):
        audit.write("push", user=f"user {number}")
    good = path.read_text().splitlines(keepends=True)
    for lines in (
        [*good[:line], good[line].replace("push", "pull"), *good[line + 1 :]],
        [*good[:line], *good[line + 1 :]] if line else ["", *good[2:]],
        [*good[:line], good[line + 1], good[line], *good[line + 2 :]],
        [*good[:line], "{}\n", *good[line + 1 :]],
    ):
        path.write_text("".join(lines))
        assert broken(path), lines


def test_a_log_goes_on_after_a_restart(path: Path) -> None:
    for number in range(3):
        audit = AuditLog(path, KEY)
        audit.write("push", number=number)
        audit.close()
    assert [r["number"] for r in records(path)] == [0, 1, 2]
    assert broken(path) == []


def test_a_file_that_is_renamed_is_followed_by_another(audit: AuditLog, path: Path) -> None:
    audit.write("push", number=0)
    old = path.rename(path.with_name("audit.log.1"))
    for number in (1, 2):
        audit.write("push", number=number)
    older = path.rename(path.with_name("audit.log.2"))
    path.touch()  # some rotators make it
    audit.write("push", number=3)
    assert [r["number"] for r in records(older)] == [1, 2]
    assert broken(old, older, path) == []
    assert broken(older, path) == []
    assert broken(older, old) != []
    lines = older.read_text().splitlines(keepends=True)
    older.write_text(lines[0])
    assert broken(old, older, path) == [("audit.log", 1)]


def test_a_line_that_a_crash_broke_off_is_no_forgery(path: Path) -> None:
    audit = AuditLog(path, KEY)
    audit.write("push", number=0)
    audit.write("push", number=1)
    audit.close()
    content = path.read_bytes()
    path.write_bytes(content + content[:40])
    assert broken(path) == [("audit.log", 3)]
    audit = AuditLog(path, KEY)
    audit.write("push", number=2)
    audit.close()
    assert broken(path) == []
    path.write_bytes(content[:-20])  # a whole line is cut: the next one cannot follow it
    audit = AuditLog(path, KEY)
    audit.write("push", number=3)
    audit.close()
    assert broken(path) == []
    assert records_without_torn(path) == [0, 3]


def records_without_torn(path: Path) -> list[int]:
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line)["number"])
        except ValueError:
            continue
    return found


def test_many_threads_write_whole_lines_in_one_chain(audit: AuditLog, path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: audit.write("push", number=n), range(200)))
    assert sorted(r["number"] for r in records(path)) == list(range(200))
    assert broken(path) == []


def test_a_log_that_cannot_be_written_is_told_and_comes_back(
    audit: AuditLog, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.write("push", number=0)

    def full(descriptor: int, line: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    audit.write("push", number=1)
    assert "the audit log is not written" in caplog.text
    monkeypatch.undo()
    audit.write("push", number=2)
    assert [r["number"] for r in records(path)] == [0, 2]
    assert broken(path) == []


# --- what is written down


@pytest.fixture
def shop(audit: AuditLog, tmp_path: Path) -> Iterator[Shop]:
    users = tmp_path / "htpasswd"
    # alice:secret
    users.write_text("alice:$2b$04$zOPDHS2JoRbBjAzmSNDPHOBrPtLFMhCnIzwtUpBtpgKZ5hYaEkcW2\n")
    access = Htpasswd("test", str(users))
    access._is_right = lambda name, password: password == "secret"  # type: ignore[method-assign]
    with Registry.in_memory() as registry, serving(registry, access=access) as found:
        found.application = Audited(found.application, audit)  # type: ignore[assignment]
        yield found


RIGHT = {"Authorization": "Basic YWxpY2U6c2VjcmV0"}  # alice:secret
WRONG = {"Authorization": "Basic YWxpY2U6d3Jvbmc="}  # alice:wrong


def told(path: Path) -> list[tuple[Any, ...]]:
    keys = ("action", "result", "user", "repository", "reference")
    return [tuple(record.get(key, "") for key in keys) for record in records(path)]


def test_it_says_who_did_what_and_with_what_result(shop: Shop, path: Path) -> None:
    for content in (b"layer", b"{}"):
        url = f"/v2/team/app/blobs/uploads/?digest={sha(content)}"
        assert shop.ask("POST", url, content, RIGHT).status == 201
    body = manifest([sha(b"layer")], [b"layer"])
    shop.ask("PUT", "/v2/team/app/manifests/1", body, RIGHT)
    shop.ask("GET", "/v2/team/app/manifests/1", headers=RIGHT)
    shop.ask("HEAD", "/v2/team/app/manifests/1", headers=RIGHT)
    shop.ask("GET", f"/v2/team/app/blobs/{sha(b'layer')}", headers=RIGHT)
    shop.ask("GET", "/v2/", headers=RIGHT)
    shop.ask("GET", "/v2/")
    shop.ask("GET", "/v2/team/app/manifests/none", headers=RIGHT)
    shop.ask("GET", "/v2/", headers=WRONG)
    shop.ask("GET", "/v2/team/app/manifests/1", headers=WRONG)
    url = f"/v2/team/b/blobs/uploads/?mount={sha(b'layer')}&from=team/app"
    assert shop.ask("POST", url, headers=RIGHT).status == 201
    shop.ask("DELETE", "/v2/team/app/manifests/1", headers=RIGHT)
    shop.ask("GET", "/nowhere", headers=RIGHT)
    assert told(path) == [
        ("push blob", "done", "alice", "team/app", ""),
        ("push blob", "done", "alice", "team/app", ""),
        ("push", "done", "alice", "team/app", "1"),
        ("pull", "done", "alice", "team/app", "1"),
        ("pull", "failed", "alice", "team/app", "none"),
        ("login", "refused", "alice", "", ""),
        ("pull", "refused", "alice", "team/app", "1"),
        ("mount", "done", "alice", "team/b", ""),
        ("delete", "done", "alice", "team/app", "1"),
    ]
    assert {record["address"] for record in records(path)} == {"192.0.2.7"}
    assert broken(path) == []


def test_what_clients_choose_is_bounded(shop: Shop, path: Path) -> None:
    shop.ask(
        *("GET", "/v2/team/app/manifests/1?x=" + "y" * 10_000),
        headers={**RIGHT, "User-Agent": "z\x1b[2J" * 10_000},
    )
    (line,) = path.read_text().splitlines()
    assert len(line) < 2000
    assert "\x1b" not in line


def test_actions_can_be_left_out(path: Path) -> None:
    audit = AuditLog(path, ignored=["pull"])
    audit.write("pull")
    audit.write("push")
    audit.close()
    assert [r["action"] for r in records(path)] == ["push"]


def test_a_name_that_nobody_has_checked_is_nobodys(audit: AuditLog, path: Path) -> None:
    with Registry.in_memory() as registry, serving(registry) as everybody:
        everybody.application = Audited(everybody.application, audit)  # type: ignore[assignment]
        body = manifest([], [])
        everybody.push_blob("team/app", b"{}")
        everybody.ask("PUT", "/v2/team/app/manifests/1", body, RIGHT)
    assert told(path)[-1] == ("push", "done", "", "team/app", "1")
