"""What the doctor found out about a host, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import msgspec

Severity = Literal["ok", "note", "warning", "error"]

_SIGNS: Final = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "error": "ERROR  "}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    topic: str
    severity: Severity
    found: str
    effect: str = ""  # what does not work because of it
    remedy: str = ""  # how to get it


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings for people."""
    lines = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.severity]} {finding.topic}: {finding.found}")
        if finding.effect:
            lines.append(f"        because of it: {finding.effect}")
        if finding.remedy:
            lines.append(f"        to get it:     {finding.remedy}")
    worst = [finding for finding in findings if finding.severity in ("error", "warning")]
    lines.append("")
    if worst:
        lines.append(f"{len(worst)} of {len(findings)} findings need attention.")
    else:
        lines.append("This host has all that containers need.")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> bytes:
    """Return the findings for programs."""
    return msgspec.json.format(msgspec.json.encode([asdict(one) for one in findings])) + b"\n"


def warnings(findings: Sequence[Finding]) -> list[str]:
    """Return what `info` shows under Warnings."""
    return [
        f"WARNING: {finding.topic}: {finding.found}: {finding.effect}"
        for finding in findings
        if finding.severity in ("warning", "error")
    ]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if something that is needed is missing."""
    return int(any(finding.severity == "error" for finding in findings))
