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
TESTS = tracked("tests/*.py")


# One test for all files, not one for each: five thousand tests cost more than what they look at.
def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in [*MODULES, *TESTS]}


@pytest.fixture(scope="module")
def trees(sources: dict[Path, str]) -> dict[Path, ast.Module]:
    return {path: ast.parse(sources[path]) for path in MODULES}


def test_the_checkout_is_complete() -> None:
    assert len(MODULES) > 50


def test_no_module_is_longer_than_one_can_read(sources: dict[Path, str]) -> None:
    lines = {named(path): len(source.splitlines()) for path, source in sources.items()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_every_module_says_what_lives_there(
    sources: dict[Path, str], trees: dict[Path, ast.Module]
) -> None:
    written = [path for path in MODULES if sources[path].strip()]
    assert [named(path) for path in written if not ast.get_docstring(trees[path])] == []


def test_functions_fit_a_screen(trees: dict[Path, ast.Module]) -> None:
    long = [
        f"{named(path)}, {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def test_nothing_is_put_off(sources: dict[Path, str]) -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")
    assert [named(path) for path in MODULES if words.search(sources[path])] == []


def test_packages_are_empty_but_for_the_two_front_doors(sources: dict[Path, str]) -> None:
    packages = [path for path in MODULES if path.name == "__init__.py" and sources[path].strip()]
    assert [named(path) for path in packages if path.parent.name not in ("sampan", "rpc")] == []


def _imports(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Return which modules of ours each module names, those for the type checker too."""
    names = {
        ".".join(path.relative_to(REPOSITORY / "src").with_suffix("").parts): path
        for path in MODULES
        if path.name != "__init__.py"
    }
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        imported: set[str] = set()
        for node in ast.walk(trees[path]):
            if isinstance(node, ast.ImportFrom):
                imported |= {node.module or "", *(f"{node.module}.{a.name}" for a in node.names)}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = imported & names.keys()
    return found


def test_no_modules_need_each_other(trees: dict[Path, ast.Module]) -> None:
    imports = _imports(trees)
    assert len(imports) > 500
    while leaves := {name for name, needed in imports.items() if not needed}:
        imports = {name: it - leaves for name, it in imports.items() if name not in leaves}
    assert imports == {}


def test_there_is_no_drawer_for_everything() -> None:
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "util", "common", "helpers", "misc", "manager"}


def test_files_of_tests_that_pages_name_exist() -> None:
    there = [f"/{named(path)}" for path in TESTS]
    missing = [
        f"{named(page)}: {name}"
        for page in tracked("*.md")
        for name in re.findall(r"`([\w/]*\btest_\w+\.py)`", page.read_text())
        if not any(one.endswith(f"/{name}") for one in there)
    ]
    assert missing == []


def test_files_go_anyhow_only_where_nobody_was_promised_them(sources: dict[Path, str]) -> None:
    """All others need the change that they go in, whose lock may be another registry's by now."""
    having = {named(path) for path in MODULES if re.search(r"\bANYHOW\b", sources[path])}
    may = {"content/aliases", "content/uploads", "upkeep/presence", "drivers/driver"}
    assert having == {f"src/sampan/registry/{name}.py" for name in may}
