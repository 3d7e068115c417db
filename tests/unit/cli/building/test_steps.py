"""The progress of a build becomes steps, and lines."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import pytest

from sampan.cli.building.live import Live
from sampan.cli.building.plain import Plain
from sampan.cli.building.steps import Steps
from sampan.cli.display.output import Output

Document = dict[str, Any]


def at(seconds: float) -> str:
    return f"2026-01-02T03:04:{seconds:09.6f}Z"


def vertex(digest: str, name: str, began: float, ended: float = 0, **more: Any) -> Document:
    done = {"completed": at(ended)} if ended else {}
    return {"vertexes": [{"digest": digest, "name": name, "started": at(began), **done, **more}]}


def log(digest: str, data: bytes, moment: float) -> Document:
    encoded = base64.b64encode(data).decode()
    return {"logs": [{"vertex": digest, "stream": 1, "data": encoded, "timestamp": at(moment)}]}


def transfer(digest: str, name: str, current: int, total: int = 0, ended: float = 0) -> Document:
    done = {"completed": at(ended)} if ended else {}
    one = {"vertex": digest, "id": name, "current": current, "total": total, **done}
    return {"statuses": [one]}


STORY = [
    vertex("a", "[internal] load build context", 1),
    transfer("a", "transferring context:", 2048, ended=1.5),
    vertex("a", "[internal] load build context", 1, 1.5),
    vertex("b", "[1/3] RUN one", 2),
    log("b", b"first\nsec", 2.25),
    vertex("c", "[2/3] RUN two", 2.5),
    log("c", b"other\n", 2.75),
    log("b", b"ond\nrest", 3),
    vertex("b", "[1/3] RUN one", 2, 4),
    vertex("c", "[2/3] RUN two", 2.5, 4.5, cached=True),
]
PLAIN = """\
#1 [internal] load build context
#1 transferring context: 2.048kB done
#1 DONE 0.5s

#2 [1/3] RUN one
#2 0.250 first
#2 ...

#3 [2/3] RUN two
#3 0.250 other
#3 ...

#2 [1/3] RUN one
#2 1.000 second
#2 1.000 rest
#2 DONE 2.0s

#3 [2/3] RUN two
#3 CACHED

"""


def printed(make: Callable[[Output], Any], *documents: Document) -> str:
    """Return what a printer writes that takes these documents."""
    descriptor = os.memfd_create("out")
    try:
        printer = make(Output(descriptor))
        for document in documents:
            printer.take(document)
        printer.close()
        return os.pread(descriptor, 1 << 20, 0).decode()
    finally:
        os.close(descriptor)


def test_lines_tell_what_happens() -> None:
    assert printed(Plain, *STORY) == PLAIN


def test_a_failure_has_the_last_lines_of_its_step() -> None:
    failing = [
        vertex("a", "RUN false", 1),
        log("a", b"".join(b"%d\n" % number for number in range(30)), 2),
        vertex("b", "RUN sleep", 1),
        vertex("b", "RUN sleep", 1, 3, error="context canceled"),
        vertex("a", "RUN false", 1, 3, error="exit code: 1"),
    ]
    said = printed(Plain, *failing)
    assert "#1 ERROR: exit code: 1\n" in said
    *_, block = said.split("------\n > RUN false:\n")
    assert block.splitlines() == [*(f"1.000 {number}" for number in range(10, 30)), "------"]


def test_warnings_come_last() -> None:
    texts = [base64.b64encode(text).decode() for text in (b"One: bad", b"Two: worse")]
    said = printed(Plain, *STORY, {"warnings": [{"short": text} for text in texts]})
    assert said.endswith("\n 2 warnings found:\n - One: bad\n - Two: worse\n")


def test_what_a_command_writes_does_nothing_to_a_terminal() -> None:
    evil = [vertex("a", "RUN \x1b]0;x\x07", 1), log("a", b"\x1b[2J50%\r100%\x9b\n", 2)]
    for make in (Plain, Live):
        said = printed(make, *evil)
        assert "\x1b]" not in said
        assert "\x1b[2J" not in said
        assert "\x9b" not in said


@pytest.mark.parametrize(
    "document",
    [
        {}, {"vertexes": 1}, {"vertexes": [1]}, {"vertexes": [{}]}, {"logs": [{"vertex": "x"}]},
        {"statuses": [{"vertex": "a", "current": "x"}]}, {"warnings": [{"short": "!"}]},
        {"logs": [{"vertex": "a", "data": 5, "timestamp": 7}]},
        {"vertexes": [{"digest": "a", "completed": "yesterday"}]},
    ],
)  # fmt: skip
def test_no_document_does_harm(document: Document) -> None:
    for make in (Plain, Live):
        printed(make, STORY[0], document)


def test_output_that_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampan.cli.building.steps.KEPT_LINES", 3)
    steps = Steps()

    class Nobody:
        def begin(self, _: Any) -> None: ...
        def line(self, *_: Any) -> None: ...

    for document in (STORY[3], log("b", b"1\n2\n3\n4\n5\n", 3)):
        steps.take(document, Nobody())
    [step] = steps
    assert step.lines == ["1.000 3", "1.000 4", "1.000 5"]
