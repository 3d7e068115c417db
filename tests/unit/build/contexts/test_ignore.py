"""`.dockerignore`. The rules are those of Docker's documentation and of moby's matcher."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.contexts.ignore import Ignore, read_ignore
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("content", "patterns"),
    [
        (b"", []),
        (b"# comment\n\n  \n", []),
        (b" a \r\n", ["a"]),
        (b"\xef\xbb\xbfa", ["a"]),
        (b" # no comment", ["# no comment"]),
        (b"/a/b/", ["a/b"]),
        (b"/", ["/"]),
        (b"./a/../b", ["b"]),
        (b"! /a/ ", ["!a"]),
        (b"a//b", ["a/b"]),
        (b"!", ["!"]),
        (b"..", [".."]),
    ],
)
def test_lines_are_cleaned(content: bytes, patterns: list[str]) -> None:
    assert read_ignore(content) == patterns


CASES = [
    # exact names, and everything below them
    ("a", "a", True),
    ("a", "a/b/c", True),
    ("a", "b/a", False),
    ("a", "ab", False),
    ("a/b", "a/b/c", True),
    ("a/b", "a", False),
    # a star stops at a slash
    ("*", "a", True),
    ("*", "a/b", True),
    ("*.py", "x.py", True),
    ("*.py", "a/x.py", False),
    ("*.py", "x.py/b", True),
    ("*/x", "a/x", True),
    ("*/x", "a/b/x", False),
    ("a*", "a", True),
    ("a*c", "abbc", True),
    ("*a*b*", "xaybz", True),
    ("a?", "ab", True),
    ("a?", "a/", False),
    ("a?", "a", False),
    # two stars do not
    ("**", "a/b/c", True),
    ("**/x", "x", True),
    ("**/x", "a/b/x", True),
    ("**/x", "a/b/xy", False),
    ("**/x", "a/x/y", True),
    ("**/*.py", "x.py", True),
    ("**/*.py", "a/b/x.py", True),
    ("a/**", "a/b", True),
    ("a/**", "a", False),
    ("a/**/x", "a/x", True),
    ("a/**/x", "a/b/c/x", True),
    ("a/**/x", "b/x", False),
    ("**a", "bca", True),
    ("a**b", "ab", True),
    ("a/b**", "a/bcd/e", True),
    ("**/", "a/b", True),
    # classes
    ("[ab]", "a", True),
    ("[ab]", "c", False),
    ("[a-c]x", "bx", True),
    ("[^a]", "b", True),
    ("[^a]", "a", False),
    ("[\\]]", "]", True),
    ("a[*]", "a*", True),
    ("a[*]", "ab", False),
    # letters that mean something elsewhere
    ("a.b", "axb", False),
    ("a+(b)|{c}$", "a+(b)|{c}$", True),
    ("a\\*", "a*", True),
    ("a\\*", "ab", False),
    ("a]", "a]", True),
    ("\u00e9*", "\u00e9\u00e8", True),
    # exceptions: the last that fits counts
    ("a\n!a/b", "a/b", False),
    ("a\n!a/b", "a/c", True),
    ("a\n!a/b\na/b/c", "a/b/c", True),
    ("a\n!a/b\na/b/c", "a/b/d", False),
    ("!a\na", "a", True),
    ("*\n!*.py", "x.py", False),
    ("*\n!a", "a/b", False),
    ("**/*.md\n!README.md", "README.md", False),
    ("**/*.md\n!README.md", "a/README.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", False),
    ("a\n!b", "c", False),
]


@pytest.mark.parametrize(("patterns", "path", "hidden"), CASES)
def test_a_path_is_hidden_as_docker_does(patterns: str, path: str, hidden: bool) -> None:
    ignore = Ignore(read_ignore(patterns.encode()))
    assert ignore.hides(path) is hidden
    assert ignore.hides(path) is hidden  # also when it remembers folders


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-]", "[-a]", "a\\", "!"])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        Ignore([pattern])


def test_a_hidden_folder_is_left_out_unless_an_exception_leads_into_it() -> None:
    ignore = Ignore(["a", "b", "!b/c", "!**/d"])
    assert ignore.skips("a")
    assert not ignore.skips("b")
    assert not ignore.skips("b/c")
    assert ignore.skips("b/x")


@given(
    st.lists(st.text(alphabet="ab*?/[]^-!\\.", max_size=10), max_size=4),
    st.text(alphabet="ab/.", max_size=12),
)
def test_no_pattern_raises_anything_but_invalid_argument(patterns: list[str], path: str) -> None:
    try:
        assert Ignore(patterns).hides(path) in (True, False)
    except InvalidArgument as error:
        assert "pattern" in str(error)  # noqa: PT017 - or it is not refused


def test_hostile_patterns_and_deep_paths_cost_no_time() -> None:
    ignore = Ignore(["**/" + "*a" * 40 + "b"])
    assert not ignore.hides("/".join(["a" * 200] * 20))
    assert not ignore.hides("a/" * 400 + "a")
