"""What is asked about Dockerfiles, and how answers are shown."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sampan.cli.building.questions import BUILD, Question
from sampan.cli.invocation import Exit

LINES = "\n".join(f"line {number}" for number in range(1, 10))


class Printed:
    """Keeps what is printed."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def line(self, text: str) -> None:
        self.text += f"{text}\n"


def shown(question: Question, answer: dict[str, str]) -> tuple[str, int]:
    printed = Printed()
    status = question.show(printed, answer)  # type: ignore[arg-type]
    return printed.text, status


def warning(first: int, last: int, rule: str = "Rule", **more: Any) -> dict[str, Any]:
    place = {"ranges": [{"start": {"line": first}, "end": {"line": last}}]}
    return {"ruleName": rule, "detail": f"{rule} is broken", "location": place, **more}


def linted(*warnings: dict[str, Any]) -> dict[str, str]:
    source = {"filename": "Dockerfile", "data": base64.b64encode(LINES.encode()).decode()}
    document = {"warnings": list(warnings), "sources": [source]}
    return {"result.json": json.dumps(document), "result.statuscode": "1" if warnings else "0"}


@pytest.mark.parametrize(
    ("text", "name"),
    [("build", BUILD), ("", BUILD), ("check", "lint"), ("lint", "lint"), ("outline", "outline")],
)
def test_a_question_has_a_name(text: str, name: str) -> None:
    assert Question(text).name == name
    assert Question(text, check=True).name == "lint"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("check,outline", "invalid print value: check,outline"),
        ("check,x=y", "invalid print field: x=y"),
        ("check,ignorestatus=maybe", "invalid ignorestatus print value: maybe"),
        ("nope", "unsupported request nope"),
    ],
)
def test_what_is_no_question_is_refused(text: str, message: str) -> None:
    with pytest.raises(Exit, match=message):
        Question(text)


def test_warnings_are_shown_in_the_order_of_lines_with_those_around() -> None:
    answer = linted(warning(9, 9, "Second"), warning(2, 3, "First", url="https://e/"))
    text, status = shown(Question("check"), answer)
    assert status == 1
    assert text == (
        "Check complete, 2 warnings have been found!\n\n"
        "WARNING: First - https://e/\nFirst is broken\n\n"
        "Dockerfile:2\n--------------------\n"
        "   1 |     line 1\n   2 | >>> line 2\n   3 | >>> line 3\n   4 |     line 4\n"
        "--------------------\n\n"
        "WARNING: Second\nSecond is broken\n\n"
        "Dockerfile:9\n--------------------\n"
        "   7 |     line 7\n   8 |     line 8\n   9 | >>> line 9\n"
        "--------------------\n"
    )


def test_the_status_may_be_ignored_and_the_document_be_printed() -> None:
    answer = linted(warning(1, 1))
    assert shown(Question("check,ignorestatus=true,format=json"), answer) == (
        answer["result.json"] + "\n", 0)  # fmt: skip


@pytest.mark.parametrize("place", [{}, {"ranges": []}, {"ranges": [{}], "sourceIndex": 7}])
def test_a_warning_without_a_place_is_shown_alone(place: dict[str, Any]) -> None:
    answer = linted({"ruleName": "R", "detail": "d", "location": place})
    assert shown(Question("check"), answer)[0].endswith("WARNING: R\nd\n\n") or shown(
        Question("check"), answer
    )[0].endswith("WARNING: R\nd\n")


def test_other_answers_are_printed_as_they_are() -> None:
    assert shown(Question("targets"), {"result.txt": "TARGET\n"}) == ("TARGET\n", 0)
