"""Lines of a Dockerfile: directives, comments, continuation, here-documents, flags."""

from __future__ import annotations

import pytest

from sampan.build.dockerfiles.source import Source, read_source
from sampan.errors import InvalidArgument


def lines(text: str) -> list[str]:
    return [node.original for node in read_source(text.encode()).nodes]


def read(text: str) -> Source:
    return read_source(text.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a\nRUN b", ["RUN a", "RUN b"]),
        ("\n  RUN a  \n\n", ["RUN a"]),
        ("# c\nRUN a\n  # c\nRUN b", ["RUN a", "RUN b"]),
        ("RUN a # no comment", ["RUN a # no comment"]),
        ("RUN a \\\n b", ["RUN a  b"]),
        ("RUN a\\\nb", ["RUN ab"]),
        ("RUN a \\ \t\nb", ["RUN a b"]),
        ("RUN a \\\n# c\n  b", ["RUN a   b"]),
        ("RUN a \\\n\n b", ["RUN a  b"]),
        ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
        ("RUN a\\ b", ["RUN a\\ b"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN \\\na \\\nb", ["RUN a b"]),
        ("\\\nRUN a", ["RUN a"]),
        ("RUN a\r\nRUN b\r\n", ["RUN a", "RUN b"]),
        ("RUN a \\\r\n b\r\n", ["RUN a  b"]),
        ("\ufeffRUN a", ["RUN a"]),
        ("# escape=`\nRUN a `\n b", ["RUN a  b"]),
        ("# escape=`\nRUN a \\\nRUN b", ["RUN a \\", "RUN b"]),
        ("#comment\n# escape=`\nRUN a `\nRUN b", ["RUN a `", "RUN b"]),
        ("# unknown=x\n# escape=`\nRUN a `\nRUN b", ["RUN a `", "RUN b"]),
        ("\n# escape=`\nRUN a `\nRUN b", ["RUN a `", "RUN b"]),
        ("#EsCaPe = `\nRUN a `\n b", ["RUN a  b"]),
    ],
)
def test_lines_are_joined_and_comments_dropped(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


def test_directives_are_read() -> None:
    source = read("# syntax=docker/dockerfile:1\n# check=skip=all\n#escape=`\nRUN a")
    assert source.directives == {
        "syntax": "docker/dockerfile:1",
        "check": "skip=all",
        "escape": "`",
    }
    assert source.escape == "`"


def test_an_instruction_knows_its_lines() -> None:
    nodes = read("# c\nRUN a \\\n  b\n\nRUN <<X\nc\nX\nRUN d").nodes
    assert [(node.first, node.last) for node in nodes] == [(2, 3), (5, 7), (8, 8)]


def test_empty_lines_inside_of_an_instruction_are_noted() -> None:
    assert read("RUN a \\\n\n b\nRUN c").empty_continuations == [3]


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("RUN --a x", ["--a"], "x"),
        ("RUN --a=b --c x --d", ["--a=b", "--c"], "x --d"),
        ("RUN -- --a x", [], "--a x"),
        ("RUN --a='b c' x", ["--a=b c"], "x"),
        ('RUN --a="b \\" c" x', ['--a=b " c'], "x"),
        ("RUN --a\\ b x", ["--a b"], "x"),
        ("RUN - x", [], "- x"),
        ("RUN", [], ""),
        ("RUN --a", ["--a"], ""),
    ],
)
def test_flags_come_before_the_rest(text: str, flags: list[str], rest: str) -> None:
    [node] = read(text).nodes
    assert (node.flags, node.rest) == (flags, rest)


@pytest.mark.parametrize(
    ("text", "content", "expand"),
    [
        ("RUN <<EOF\na\n b\nEOF", "a\n b\n", True),
        ("COPY <<EOF /x\na\nEOF", "a\n", True),
        ("ADD <<EOF /x\nEOF", "", True),
        ("RUN <<'EOF'\n$a\nEOF", "$a\n", False),
        ('RUN <<"EOF"\n$a\nEOF', "$a\n", False),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", "a\nb\n", True),
        ("RUN 3<<EOF\na\nEOF", "a\n", True),
        ("RUN cat <<EOF > /x\n# no comment\n\\\nEOF", "# no comment\n\\\n", True),
        ("ONBUILD RUN <<EOF\na\nEOF", "a\n", True),
        ("run <<EOF\r\na\r\nEOF\r\n", "a\r\n", True),
        ("RUN a << EOF\nb\nEOF", "b\n", True),
    ],
)
def test_documents_are_read(text: str, content: str, expand: bool) -> None:
    [node] = read(text).nodes
    [document] = node.heredocs
    assert (document.content, document.expand) == (content, expand)


def test_several_documents_follow_each_other() -> None:
    [node] = read("RUN <<A cat <<B\na\nA\nb\nB").nodes
    assert [(one.name, one.content) for one in node.heredocs] == [("A", "a\n"), ("B", "b\n")]


@pytest.mark.parametrize(
    "text", ["CMD <<EOF", "RUN <<", "RUN 'a <<EOF'", "RUN a<<<EOF", "RUN '<<EOF"]
)
def test_other_uses_of_the_sign_are_no_documents(text: str) -> None:
    [node] = read(text).nodes
    assert node.heredocs == []


@pytest.mark.parametrize(
    "content", [b"RUN " + b"a" * 70_000, b"FROM a\n" + b"#\n" * (9 << 20)], ids=["line", "file"]
)
def test_what_is_too_long_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_source(content)


def test_time_is_linear_in_the_length() -> None:
    text = b"RUN a" + b"\\ \\\t" * 15_000 + b"x\n"
    assert len(read_source(text + b"RUN " + b"'\"\\" * 10_000).nodes) == 2
