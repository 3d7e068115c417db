"""`build --call` and `--check`: what is asked about a Dockerfile, and how answers are printed.

Source: docker/buildx util/buildflags/callfunc.go, commands/build.go (printResult); buildkit
frontend/subrequests/lint (LintResults.PrintTo), solver/errdefs/source.go (the lines around).
"""

from __future__ import annotations

import csv

from sampan.cli.invocation import Exit
from sampan.client import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.display.output import Output

    Answer = dict[str, str]  # as BuildKit's front end gives it: result.json, result.txt, …

BUILD = "build"
CHECK = "lint"
_QUESTIONS = (CHECK, "outline", "targets", "subrequests.describe")
_RULE = "-" * 20
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class Question:
    """What is asked; `name` is BUILD if nothing is."""

    def __init__(self, text: str, *, check: bool = False) -> None:
        """Read `NAME[,format=FORMAT][,ignorestatus=BOOL]`; raises Exit."""
        self.name, self.format, self.ignores_status = "", "", False
        for field in next(csv.reader([CHECK if check else text]), []):
            key, equals, value = field.partition("=")
            if not equals:
                if self.name:
                    raise Exit(1, f"invalid print value: {text}")
                self.name = key
            elif key == "format":
                self.format = value
            elif key == "ignorestatus":
                if value.lower() not in (*_TRUE, *_FALSE):
                    raise Exit(1, f"invalid ignorestatus print value: {value}")
                self.ignores_status = value.lower() in _TRUE
            else:
                raise Exit(1, f"invalid print field: {field}")
        self.name = {"check": CHECK, "": BUILD}.get(self.name, self.name)
        if self.name not in (BUILD, *_QUESTIONS):
            raise Exit(1, f"unsupported request {self.name}: it is check, outline or targets")

    def show(self, output: Output, answer: Answer) -> int:
        """Print an answer; return the status of the command."""
        if self.format == "json":
            output.line(answer.get("result.json", ""))
        elif self.name == CHECK:
            _show_warnings(output, answer)
        else:
            output.write(answer.get("result.txt", ""))
        status = answer.get("result.statuscode", "0")
        return int(status) if status.isdecimal() and not self.ignores_status else 0


def _show_warnings(output: Output, answer: Answer) -> None:
    document = documents.decode(answer.get("result.json", "{}").encode())
    warnings, sources = document.get("warnings") or [], document.get("sources") or []
    if not warnings:
        output.line("Check complete, no warnings found.")
        return
    count = len(warnings)
    found = f"{count} warnings have" if count > 1 else "1 warning has"
    output.line(f"Check complete, {found} been found!")
    for one in sorted(warnings, key=_first):
        output.write(f"\nWARNING: {one.get('ruleName', '')}")
        output.write(f" - {one['url']}\n" if one.get("url") else "\n")
        output.line(one.get("detail", ""))
        at = (one.get("location") or {}).get("sourceIndex", 0)
        if 0 <= at < len(sources):
            output.write("\n" + _excerpt(sources[at], _ranges(one)))


def _ranges(warning: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the first and last lines that a warning is about."""
    found = []
    for one in (warning.get("location") or {}).get("ranges") or []:
        first, last = (one.get(end, {}).get("line", 0) for end in ("start", "end"))
        found.append((first, max(first, last)))
    return found


def _first(warning: dict[str, Any]) -> tuple[bool, int]:
    ranges = _ranges(warning)
    return bool(ranges), ranges[0][0] if ranges else 0


def _excerpt(source: dict[str, Any], ranges: list[tuple[int, int]]) -> str:
    """Return the lines that are meant, marked, with some around them."""
    from binascii import a2b_base64

    lines = a2b_base64(source.get("data", "")).decode("utf-8", "replace").split("\n")
    if not ranges or not 1 <= min(ranges)[0] <= len(lines):
        return ""
    first = start = min(one for one, _ in ranges)
    end = last = min(max(one for _, one in ranges), len(lines))
    around, wanted = 0, 4 if first == last else 2
    while around < wanted:
        if start > 1:
            start, around = start - 1, around + 1
        if end != len(lines):
            end, around = end + 1, around + 1
        around += 1
    text = f"{source.get('filename', '')}:{first}\n{_RULE}\n"
    for number in range(start, end + 1):
        mark = ">>>" if any(one <= number <= other for one, other in ranges) else "   "
        text += f" {number:3d} | {mark} {lines[number - 1]}\n"
    return f"{text}{_RULE}\n"
