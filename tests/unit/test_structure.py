"""Promises about the shape of the code base."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MAX_LINES = 600
MAX_FUNCTION_LINES = 60  # a screen; the style guide aims at forty


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [
        REPOSITORY / name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()
    ]


MODULES = tracked("src/*.py")


def test_the_checkout_is_complete() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("path", [*MODULES, *tracked("tests/*.py")], ids=str)
def test_no_module_is_longer_than_one_can_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_module_says_what_lives_there(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_functions_fit_a_screen(path: Path) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_is_put_off(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX)\b|NotImplementedError", path.read_text())


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=str)
def test_packages_are_empty_but_for_the_two_front_doors(path: Path) -> None:
    front_doors = {"sampan", "rpc"}
    assert path.parent.name in front_doors or not path.read_text().strip()


def _imports() -> dict[str, set[str]]:
    """Return which modules of ours each module names, those for the type checker too."""
    names = {
        ".".join(path.relative_to(REPOSITORY / "src").with_suffix("").parts): path
        for path in MODULES
        if path.name != "__init__.py"
    }
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported |= {node.module or "", *(f"{node.module}.{a.name}" for a in node.names)}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = imported & names.keys()
    return found


def test_no_modules_need_each_other() -> None:
    imports = _imports()
    assert len(imports) > 500
    while leaves := {name for name, needed in imports.items() if not needed}:
        imports = {name: it - leaves for name, it in imports.items() if name not in leaves}
    assert imports == {}


def test_there_is_no_drawer_for_everything() -> None:
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "util", "common", "helpers", "misc", "manager"}


@pytest.mark.parametrize("path", tracked("*.md"), ids=str)
def test_files_of_tests_that_pages_name_exist(path: Path) -> None:
    there = {f"/{test.relative_to(REPOSITORY)}" for test in tracked("tests/*.py")}
    named = set(re.findall(r"`([\w/]*\btest_\w+\.py)`", path.read_text()))
    assert {name for name in named if not any(one.endswith(f"/{name}") for one in there)} == set()
