"""The text of a Dockerfile: lines joined, comments dropped, directives and here-documents read.

Source: docker documentation, Dockerfile reference, "Format", "Parser directives",
"Here-Documents"; moby buildkit frontend/dockerfile/parser (rules and messages).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.build.dockerfiles import words
from sampan.build.dockerfiles.faults import Fault, mark
from sampan.build.dockerfiles.shell import Shell
from sampan.errors import InvalidArgument
from sampan.http.urls import redacted_text

_DIRECTIVE: Final = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(.*?)[ \t\r]*")
_DIRECTIVES: Final = ("syntax", "escape", "check")
_HEREDOC: Final = re.compile(r"([0-9]*)<<(-?)\s*([^<]*)")
_WITH_HEREDOCS: Final = frozenset(("ADD", "COPY", "RUN"))
_MAX_LINE: Final = 65535
_MAX_TEXT: Final = 16 << 20
_CONTEXT: Final = 2  # lines shown before and after a faulty one
_BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A document inside of the Dockerfile: `<<NAME` and what follows."""

    name: str
    content: str
    expand: bool = True  # the name was not quoted
    fd: int = 0


@dataclass(slots=True)
class Node:
    """One instruction as it is written, on one line; no variable is replaced."""

    keyword: str  # as it is written
    flags: list[str]  # --name or --name=value, without quotes
    rest: str
    first: int  # line, from 1
    last: int
    heredocs: list[Heredoc] = field(default_factory=list)
    original: str = ""  # the joined line
    tail: str = ""  # blanks at its end
    comments: list[str] = field(default_factory=list)  # right above it

    @property
    def name(self) -> str:
        """The keyword in capitals."""
        return self.keyword.upper()


@dataclass(slots=True)
class Source:
    """A Dockerfile as its instructions, and what its directives say."""

    name: str  # of the file, for messages
    lines: list[str]
    ends: list[str] = field(default_factory=list)  # of the lines, which here-documents keep
    nodes: list[Node] = field(default_factory=list)
    escape: str = "\\"
    directives: dict[str, str] = field(default_factory=dict)
    empty_continuations: list[int] = field(default_factory=list)  # lines

    def located(self, error: Exception, first: int, last: int = 0) -> InvalidArgument:
        """Return an error with its place and the lines around it, as BuildKit shows them."""
        message = f"dockerfile parse error on line {first}: {error}"
        located = InvalidArgument(f"{message}\n{self.excerpt(first, last or first)}")
        return mark(located, self.fault(message, first, last or first))

    def fault(self, sentence: str, first: int, last: int) -> Fault:
        """Return what is wrong with some lines, for clients that show them by themselves."""
        content = "".join(map(str.__add__, self.lines, self.ends))
        shown = redacted_text(content).encode("utf-8", "replace")
        return Fault(sentence, self.name, shown, first, last)

    def excerpt(self, first: int, last: int) -> str:
        """Return the lines around a place; those meant are marked."""
        start, end = max(first - _CONTEXT, 1), min(last + _CONTEXT, len(self.lines))
        rule = "--------------------"
        shown = [
            f"{number:4d} | {'>>>' if first <= number <= last else '   '} {text}".rstrip()
            for number, text in enumerate(map(redacted_text, self.lines[start - 1 : end]), start)
        ]
        return "\n".join([f"{self.name}:{first}", rule, *shown, rule])


def read_source(content: bytes, name: str = "Dockerfile") -> Source:
    """Split a Dockerfile into instructions. Raises InvalidArgument with the place of the fault."""
    if len(content) > _MAX_TEXT:
        raise InvalidArgument(f"{name} is larger than {_MAX_TEXT} bytes")
    text = content.decode("utf-8", "replace").removeprefix(_BOM)
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    ends = ["\r\n" if line.endswith("\r") else "\n" for line in lines]
    if lines and not text.endswith("\n"):
        ends[-1] = ends[-1].removesuffix("\n")
    source = Source(name, [line.removesuffix("\r") for line in lines], ends)
    start = _read_directives(source)
    _Splitter(source, start).run()
    if not source.nodes:
        raise InvalidArgument("file with no instructions")
    return source


def _read_directives(source: Source) -> int:
    """Read the directives at the top; return how many lines they are."""
    for at, line in enumerate(source.lines):
        match = _DIRECTIVE.fullmatch(line.lstrip(" \t") if at else line.lstrip())
        key = match[1].lower() if match else ""
        if match is None or key not in _DIRECTIVES:
            return at
        if key in source.directives:
            error = InvalidArgument(f"only one {key} parser directive can be used")
            raise source.located(error, at + 1)
        source.directives[key] = match[2]
        if key == "escape":
            if match[2] not in ("\\", "`"):
                error = InvalidArgument(f"invalid escape token '{match[2]}' does not match ` or \\")
                raise source.located(error, at + 1)
            source.escape = match[2]
    return len(source.lines)


class _Splitter:
    """Joins lines and cuts them into instructions."""

    def __init__(self, source: Source, start: int) -> None:
        self._source, self._at = source, start
        self._comments: list[str] = []
        escape = re.escape(source.escape)
        # One escape at the end goes on on the next line, two are one letter.
        self._continued = re.compile(rf"((?:.*[^{escape}])?){escape}[ \t]*", re.DOTALL)

    def run(self) -> None:
        while (line := self._line()) is not None:
            if _is_comment(line):
                said = line.strip().removeprefix("#").strip()
                self._comments = [*self._comments, said] if said else []
            if _is_comment(line) or not line.strip():
                continue
            self._instruction(line)

    def _line(self) -> str | None:
        if self._at >= len(self._source.lines):
            return None
        line = self._source.lines[self._at]
        self._at += 1
        if len(line) > _MAX_LINE:
            error = InvalidArgument(
                f"dockerfile line greater than maximum allowed size of {_MAX_LINE}"
            )
            raise self._source.located(error, self._at)
        return line

    def _instruction(self, line: str) -> None:
        first = last = self._at
        pieces = [line.lstrip()]
        empty = False
        while joined := self._continued.fullmatch(pieces[-1]):
            pieces[-1] = joined[1]
            following = self._line()
            while following is not None and (_is_comment(following) or not following.strip()):
                if not following.strip():
                    empty = True
                following = self._line()
            if following is None:
                break
            pieces.append(following)
        last = self._at
        if empty:
            self._source.empty_continuations.append(last)
        text = "".join(pieces)
        whole = text.strip()
        try:
            node = cut(whole, first, last)
            node.comments, self._comments = self._comments, []
            node.tail = text[len(text.rstrip()) :]
            if node.name in ("ENV", "LABEL") and node.rest:
                words.pairs(node.name, node.rest, self._source.escape)
            self._heredocs(node)
        except InvalidArgument as error:
            if "\n" in str(error):  # it says where
                raise
            raise self._source.located(error, first, last) from error
        self._source.nodes.append(node)

    def _heredocs(self, node: Node) -> None:
        for begun in heredocs_of(node.name, node.rest):
            node.heredocs.append(self._heredoc(begun, node))
        node.last = max(node.last, self._at if node.heredocs else 0)

    def _heredoc(self, begun: _Begun, node: Node) -> Heredoc:
        lines: list[str] = []
        while (line := self._line()) is not None:
            plain = line.lstrip("\t") if begun.chomp else line
            if plain == begun.name:
                return Heredoc(begun.name, "".join(lines), begun.expand, begun.fd)
            lines.append(plain + self._source.ends[self._at - 1])
        raise self._source.located(InvalidArgument("unterminated heredoc"), node.first, node.last)


@dataclass(frozen=True, slots=True)
class _Begun:
    name: str
    chomp: bool
    expand: bool
    fd: int


def heredocs_of(keyword: str, rest: str) -> Sequence[_Begun]:
    """Return the here-documents that an instruction announces."""
    if keyword == "ONBUILD":
        inner, _, rest = rest.partition(" ")
        keyword = inner.upper()
    if keyword not in _WITH_HEREDOCS or "<<" not in rest:
        return []
    raw = Shell(raw_quotes=True, raw_escapes=True, keep_unset=True)
    try:
        words = raw.expand(rest, {}).words
    except InvalidArgument:
        return []  # quotes that a shell may understand
    return [begun for word in words if (begun := _begun(word))]


def _begun(word: str) -> _Begun | None:
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = Shell(keep_unset=True).expand(match[3], {}).words
    if len(names) != 1 or not names[0]:
        return None
    quoted = any(letter in match[3] for letter in "'\"")
    return _Begun(names[0], bool(match[2]), not quoted, int(match[1][:4] or 0))


def cut(whole: str, first: int, last: int) -> Node:
    """Cut one line into keyword, flags and the rest."""
    keyword, _, rest = _split(whole)
    flags, rest = _flags(rest)
    return Node(keyword, flags, rest.strip(), first, last, original=whole)


def _split(text: str) -> tuple[str, str, str]:
    found = re.search(r"\s+", text)
    if found is None:
        return text, "", ""
    return text[: found.start()], found[0], text[found.end() :]


def _flags(rest: str) -> tuple[list[str], str]:
    """Take the words away that begin with `--`; quotes and backslashes keep blanks in them."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(rest) and rest[at].isspace():
            at += 1
        if not rest.startswith("--", at):
            return flags, rest[at:]
        word, at = _flag(rest, at)
        if word == "--":
            return flags, rest[at:]
        flags.append(word)


def _flag(rest: str, at: int) -> tuple[str, int]:
    letters: list[str] = []
    quote = ""
    while at < len(rest):
        letter = rest[at]
        if letter == "\\" and at + 1 < len(rest):
            at += 1
            letters.append(rest[at])
        elif quote:
            if letter == quote:
                quote = ""
            else:
                letters.append(letter)
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            break
        else:
            letters.append(letter)
        at += 1
    return "".join(letters), at


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
