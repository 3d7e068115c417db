"""What our command line says beyond docker's, on a daemon of canned answers."""

from __future__ import annotations

import json
import signal
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.fake_daemon import FakeDaemon, Reply, document, stream
from tests.session import PATIENCE
from tests.side_by_side import Case, Told, environment, programs, told

pytestmark = pytest.mark.slow


def said(case: Case, folder: Path) -> list[Told]:
    return told("sampan", case, folder)


def report(*problems: dict[str, Any]) -> dict[str, Any]:
    counts = {"Images": 3, "Layers": 1, "Blobs": 0, "References": 4, "Mounts": 0}
    return {"Problems": list(problems), "Checked": {**counts, "Bytes": 1234567}}


def problem(repaired: bool) -> dict[str, Any]:
    return {
        "Kind": "layer",
        "Object": "sha256:abc",
        "Message": "content has another digest",
        "Repaired": repaired,
    }


def test_a_check_without_problems_is_one_line(tmp_path: Path) -> None:
    case = Case("system check", {"GET /system/check": document(report())})
    (found,) = said(case, tmp_path)
    assert found.out == "Checked 3 images, 1 layer, 4 references (1.235MB): no problems\n"
    assert (found.status, found.err) == (0, "")


def test_a_check_tells_of_problems_and_fails(tmp_path: Path) -> None:
    replies = {
        "GET /system/check": document(report(problem(False))),
        "POST /system/check": document(report(problem(True), problem(True))),
    }
    found, repaired = said(Case("system check\nsystem check --repair", replies), tmp_path)
    lines = found.out.splitlines()
    assert lines[0] == "layer sha256:abc: content has another digest"
    assert lines[-1].endswith(": 1 problem")
    assert found.status == 1
    assert repaired.out.startswith("layer sha256:abc: content has another digest (repaired)\n")
    assert repaired.out.endswith(": 2 problems, 2 repaired\n")
    assert repaired.asked[0].query == {"repair": ["1"]}
    assert repaired.status == 0


def test_a_check_has_the_formats_of_lists(tmp_path: Path) -> None:
    case = Case(
        """
        system check --format json
        system check --format '{{.Kind}} {{.Repaired}}'
        system check --format table
        """,
        {"GET /system/check": document(report(problem(False)))},
    )
    whole, lines, table = said(case, tmp_path)
    assert table.out.split()[:4] == ["KIND", "OBJECT", "PROBLEM", "REPAIRED"]
    assert json.loads(whole.out) == report(problem(False))
    assert (whole.status, lines.out) == (1, "layer no\n")


def test_disk_usage_accounts_for_every_byte(tmp_path: Path) -> None:
    usage = {
        "LayersSize": 0,
        "Storage": [
            {"Kind": "Layers", "Count": 2, "Size": 1000, "Reclaimable": 0},
            {"Kind": "Staged layers", "Count": 1, "Size": 500, "Reclaimable": 500},
        ],
    }
    case = Case("system df -v\nsystem df", {"GET /system/df": document(usage)})
    verbose, short = said(case, tmp_path)
    own = verbose.out.partition("\nStorage usage: 1.5kB\n\n")[2].splitlines()
    assert [line.split() for line in own] == [
        ["KIND", "COUNT", "SIZE", "RECLAIMABLE"],
        ["Layers", "2", "1kB", "0B"],
        ["Staged", "layers", "1", "500B", "500B"],
    ]
    assert "Storage" not in short.out


def test_old_flags_of_search_are_filters_now(tmp_path: Path) -> None:
    case = Case(
        """
        search -s 3 x
        search --stars=10 --automated x
        search --automated=false x
        """,
        {"GET /images/search": document([])},
    )
    short, long, no = said(case, tmp_path)
    assert short.asked[0].query["filters"] == [{"stars": {"3": True}}]
    assert short.err == "Flag --stars has been deprecated, use --filter=stars=3 instead\n"
    assert long.asked[0].query["filters"] == [
        {"stars": {"10": True}, "is-automated": {"true": True}}
    ]
    assert no.asked[0].query["filters"] == [{"is-automated": {"false": True}}]


@pytest.mark.parametrize("line", ["pull x", "push x", "run --pull=always x"])
@pytest.mark.parametrize("way", ["flag", "environment"])
def test_a_check_of_signatures_is_not_promised(line: str, way: str, tmp_path: Path) -> None:
    name, _, rest = line.partition(" ")
    case = (
        Case(f"{name} --disable-content-trust=false {rest}")
        if way == "flag"
        else Case(line, environment={"DOCKER_CONTENT_TRUST": "1"})
    )
    (found,) = said(case, tmp_path)
    assert found.status == (125 if name == "run" else 1)
    assert (found.out, found.asked) == ("", [])
    assert "content trust is not supported" in found.err


def test_an_index_with_missing_parts_is_explained(tmp_path: Path) -> None:
    case = Case(
        "push x",
        {"POST /images/docker.io/library/x/push": stream({"aux": {"contentMissing": True}})},
    )
    (found,) = said(case, tmp_path)
    assert "Info -> The image is an index of several platforms" in found.out


def test_descriptions_of_others_do_not_write_on_the_terminal(tmp_path: Path) -> None:
    evil = [{"name": "a\x1b[2J", "description": "b\x1b]0;c\x07", "star_count": 1}]
    (found,) = said(Case("search x", {"GET /images/search": document(evil)}), tmp_path)
    assert not set(found.out) & {"\x1b", "\x07"}


@pytest.mark.parametrize(
    "piece",
    [
        b'{"status": "' + b"x" * (17 << 20) + b'"}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b"null\n",
        b"<html>\n",
    ],
    ids=["endless line", "deep", "no text", "null", "no JSON"],
)
def test_what_is_no_stream_of_messages_is_one_clear_error(piece: bytes, tmp_path: Path) -> None:
    case = Case("pull x", {"POST /images/create": stream({"status": "begins"}, piece)})
    (found,) = said(case, tmp_path)
    assert found.status == 1
    assert found.out == "Using default tag: latest\nbegins\n"
    assert len(found.err.splitlines()) == 1
    assert "Traceback" not in found.err


@pytest.mark.parametrize("line", ["images", "search x", "system df", "image inspect x"])
def test_what_is_no_json_is_one_clear_error(line: str, tmp_path: Path) -> None:
    case = Case(
        line,
        {
            f"GET {path}": stream(b"<html>")
            for path in ("/images/json", "/images/search", "/system/df", "/images/x/json")
        },
    )
    (found,) = said(case, tmp_path)
    assert found.status == 1
    assert "Traceback" not in found.err
    assert found.err == "the daemon sent what is no JSON: no JSON value at character 0\n"


@pytest.mark.parametrize(
    "answer",
    [{}, [], [[]], [{}], [{"Id": 1}], [None], "text", 5, None, [{"Id": "x", "Created": "y"}]],
    ids=str,
)
@pytest.mark.parametrize("line", ["images", "images --tree", "history x", "search x", "system df"])
def test_an_answer_of_another_shape_is_one_clear_line(
    line: str, answer: Any, tmp_path: Path
) -> None:
    paths = ("/images/json", "/images/x/history", "/images/search", "/system/df")
    case = Case(line, {f"GET {path}": document(answer) for path in paths})
    (found,) = said(case, tmp_path)
    assert "Traceback" not in found.err
    assert len(found.err.splitlines()) <= 1
    assert found.status == (1 if found.err else 0)


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_a_login_that_is_broken_off_leaves_the_terminal_as_it_was(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "daemon"
    folder.mkdir()
    with FakeDaemon(folder).serving() as daemon:
        child = pexpect.spawn(
            programs()["sampan"],
            ["login", "-u", "me", "host"],
            env=environment(tmp_path, daemon, Case("")),
            timeout=PATIENCE,
        )
        child.expect_exact("Password: ")
        assert not termios.tcgetattr(child.child_fd)[3] & termios.ECHO
        if how == "interrupt":
            child.sendintr()
        else:
            child.kill(signal.SIGTERM)
        child.expect(pexpect.EOF)
        assert termios.tcgetattr(child.child_fd)[3] & termios.ECHO
        child.close()
    assert child.exitstatus == {"interrupt": 130, "terminate": 143}[how]
    assert daemon.asked == []


def test_a_pull_that_is_broken_off_ends_at_once(tmp_path: Path) -> None:
    held = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b'{"status":"Waiting","progressDetail":{},"id":"layer"}\n'
        held.wait(PATIENCE)

    folder = tmp_path / "daemon"
    folder.mkdir()
    with FakeDaemon(folder, {"POST /images/create": Reply(200, pieces())}).serving() as daemon:
        child = pexpect.spawn(
            programs()["sampan"],
            ["pull", "x"],
            env=environment(tmp_path, daemon, Case("")),
            timeout=PATIENCE,
        )
        child.expect_exact("layer: Waiting")
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        held.set()
    assert child.exitstatus == 130
