"""docs/reference/distribution-specification.md: every rule has tests, and all of them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/reference/distribution-specification.md"
RULES = [
    line
    for line in PAGE.read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| rule ")
]
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def test_the_page_has_the_rules() -> None:
    assert len(RULES) > 50


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[2:60])
def test_a_rule_has_tests_that_exist(rule: str) -> None:
    named = NAMED.findall(rule)
    assert named
    for path, name in named:
        assert f"\ndef {name}(" in (TESTS / path).read_text("utf-8"), f"{path}::{name}"


def test_every_test_about_the_specification_alone_stands_beside_its_rule() -> None:
    path = "unit/registry/endpoints/test_specification.py"
    there = set(re.findall(r"^def (test_\w+)", (TESTS / path).read_text("utf-8"), re.MULTILINE))
    assert (
        there - {name for where, name in NAMED.findall("\n".join(RULES)) if where == path} == set()
    )
