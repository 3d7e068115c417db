"""BuildKit's checks: which rule finds what, and how they are left out."""

from __future__ import annotations

import pytest

from sampan.build.dockerfiles.linting import Checks, Violation
from sampan.errors import InvalidArgument
from tests.checks import checked


def found(text: str) -> list[str]:
    told = checked(text)
    assert isinstance(told, list), told
    return [f"{lines[0]} {rule}" for rule, _, lines in sorted(told, key=lambda one: one[2][0])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('FROM a AS b\nWORKDIR /x\nRUN y\nEXPOSE 80/tcp\nENV A=b\nCMD ["c"]', []),
        ("from a as b\nrun x", []),
        ("FROM a AS Bc", ["1 StageNameCasing"]),
        ("FROM a as b", ["1 FromAsCasing"]),
        ("from a AS b\nrun x", ["1 FromAsCasing"]),
        ("FROM a\nRUN b \\\n\n c", ["4 NoEmptyContinuation"]),
        ("FROM a\nrun b\nRUN c", ["2 ConsistentInstructionCasing"]),
        ("from a\nrun b\nRUN c", ["3 ConsistentInstructionCasing"]),
        ("FROM a\nRun b", ["2 ConsistentInstructionCasing"]),
        ("FROM a AS b\nFROM c AS B", ["2 DuplicateStageName", "2 StageNameCasing"]),
        ("FROM a AS scratch", ["1 ReservedStageName"]),
        ("FROM a AS context", ["1 ReservedStageName"]),
        ("FROM a\nCMD b", ["2 JSONArgsRecommended"]),
        ("FROM a\nENTRYPOINT b", ["2 JSONArgsRecommended"]),
        ('FROM a\nSHELL ["b"]\nCMD c', []),
        ("FROM a\nCMD", ["2 JSONArgsRecommended"]),
        ("FROM a\nMAINTAINER b", ["2 MaintainerDeprecated"]),
        ("FROM ${A:-b}", ["1 UndefinedArgInFrom"]),
        ("ARG A=b\nFROM $A", []),
        ("ARG A\nFROM b:$A", ["2 InvalidDefaultArgInFrom"]),
        ("FROM a\nWORKDIR b", ["2 WorkdirRelativePath"]),
        ("FROM a\nWORKDIR /b\nWORKDIR c", []),
        (
            'FROM a\nCMD ["b"]\nCMD ["c"]\nHEALTHCHECK NONE\nHEALTHCHECK NONE',
            ["2 MultipleInstructionsDisallowed", "4 MultipleInstructionsDisallowed"],
        ),
        ("FROM a\nENV b c\nLABEL d e", ["2 LegacyKeyValueFormat", "3 LegacyKeyValueFormat"]),
        ("FROM --platform=$TARGETPLATFORM a", ["1 RedundantTargetPlatform"]),
        ("FROM --platform=$BUILDPLATFORM a", []),
        ("FROM --platform=linux/amd64 a", ["1 FromPlatformFlagConstDisallowed"]),
        (
            "FROM a\nARG TOKEN\nENV AWS_SECRET=x PUBLIC_KEY=y KEYBOARD=z",
            ["2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"],
        ),
        ("FROM a\nEXPOSE 80/TCP", ["2 ExposeProtoCasing"]),
        ("FROM a\nEXPOSE 127.0.0.1:80:80", ["2 ExposeInvalidFormat"]),
    ],
)
def test_a_check_finds_its_places(text: str, expected: list[str]) -> None:
    assert sorted(found(text)) == sorted(expected)


VIOLATIONS = [Violation("StageNameCasing", "x", 1, 1), Violation("JSONArgsRecommended", "y", 2, 2)]


def test_rules_have_pages() -> None:
    assert [one.url.rpartition("rule/")[2] for one in VIOLATIONS] == [
        "stage-name-casing/",
        "json-args-recommended/",
    ]


@pytest.mark.parametrize(
    ("directive", "kept"),
    [
        ("", ["StageNameCasing", "JSONArgsRecommended"]),
        ("skip=all", []),
        ("skip=StageNameCasing", ["JSONArgsRecommended"]),
        ("skip=StageNameCasing,JSONArgsRecommended;error=true", []),
        ("error=false", ["StageNameCasing", "JSONArgsRecommended"]),
    ],
)
def test_a_directive_leaves_checks_out(directive: str, kept: list[str]) -> None:
    assert [one.rule for one in Checks.parse(directive).apply(VIOLATIONS)] == kept


def test_checks_may_be_errors() -> None:
    with pytest.raises(InvalidArgument, match="lint violation found for rules: JSONArgsRec"):
        Checks.parse("error=true").apply(VIOLATIONS)
    with pytest.raises(InvalidArgument, match='invalid check option "what"'):
        Checks.parse("what")
