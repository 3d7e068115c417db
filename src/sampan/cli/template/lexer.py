"""Cuts a Go template into text and actions, and an action into tokens."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SPACE = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "'": "'", "a": "\a", "b": "\b"}


class TemplateError(ValueError):
    """The template cannot be parsed, or not be applied to this data; the message is Go's."""


class Token:
    """One token of an action: `kind` is one of word, field, variable, text, number, char, punct."""

    __slots__ = ("at", "kind", "spaced", "value")

    def __init__(self, kind: str, value: str, at: int, spaced: bool) -> None:
        self.kind = kind
        self.value = value
        self.at = at  # offset in the template
        self.spaced = spaced  # white space stands before it


def pieces(source: str) -> Iterator[tuple[str, str, int]]:
    """Yield ("text", …) and ("action", …) with their offsets; `{{-` and `-}}` trim the text."""
    at = 0
    trim = False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        begin = at
        trimmed = start >= 0 and source[start + 2 : start + 3] == "-" and _blank(source, start + 3)
        if trim:
            begin += len(text) - len(text.lstrip(SPACE))
            text = text.lstrip(SPACE)
        if trimmed:
            text = text.rstrip(SPACE)
        if text:
            yield "text", text, begin
        if start < 0:
            return
        begin = start + (3 if trimmed else 2)
        end = _end_of_action(source, begin)
        trim = source[end - 1] == "-" and end - 2 >= begin and source[end - 2] in SPACE
        body = source[begin : end - 1 if trim else end]
        if not body.strip(SPACE).startswith("/*"):
            yield "action", body, begin
        at = end + 2


def _blank(source: str, at: int) -> bool:
    return source[at : at + 1] in SPACE and at < len(source)


def _end_of_action(source: str, at: int) -> int:
    begin = at
    if source[at:].lstrip(SPACE).startswith("/*"):
        close = source.find("*/", at)
        end = source.find("}}", close) if close >= 0 else -1
        if end < 0:
            raise TemplateError(f"template: :{_line(source, at)}: unclosed comment")
        return end
    while at < len(source):
        character = source[at]
        if character in "\"'`":
            at = _end_of_quote(source, at)
        elif source.startswith("}}", at):
            return at
        else:
            at += 1
    raise TemplateError(f"template: :{_line(source, begin)}: unclosed action")


def _line(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def _end_of_quote(source: str, at: int) -> int:
    quote = source[at]
    end = at + 1
    while end < len(source):
        if source[end] == "\\" and quote != "`":
            end += 2
        elif source[end] == quote:
            return end + 1
        else:
            end += 1
    kind = {"'": "character constant", "`": "raw quoted string"}.get(quote, "quoted string")
    raise TemplateError(f"template: :{_line(source, at)}: unterminated {kind}")


def tokens(body: str, offset: int) -> list[Token]:
    """Return the tokens of an action."""
    found: list[Token] = []
    at = 0
    while at < len(body):
        begin = at
        while at < len(body) and body[at] in SPACE:
            at += 1
        if at == len(body):
            break
        token, at = _token(body, at, offset, spaced=at > begin or begin == 0)
        found.append(token)
    return found


def _token(body: str, at: int, offset: int, spaced: bool) -> tuple[Token, int]:
    character = body[at]
    place = offset + at
    if character in "\"'`":
        end = _end_of_quote(body, at)
        kind = "char" if character == "'" else "text"
        return Token(kind, unquoted(body[at:end]), place, spaced), end
    if character in "().|,=" or body.startswith(":=", at):
        if character == "." and body[at + 1 : at + 2] and _is_word(body[at + 1]):
            end = _end_of_word(body, at + 1)
            return Token("field", body[at + 1 : end], place, spaced), end
        value = ":=" if character == ":" else character
        return Token("punct", value, place, spaced), at + len(value)
    if character == "$":
        end = _end_of_word(body, at + 1)
        return Token("variable", body[at:end], place, spaced), end
    if character.isdigit() or (character in "+-" and body[at + 1 : at + 2].isdigit()):
        end = at + 1
        while end < len(body) and (_is_word(body[end]) or body[end] == "."):
            end += 1
        return Token("number", body[at:end], place, spaced), end
    if _is_word(character):
        end = _end_of_word(body, at)
        return Token("word", body[at:end], place, spaced), end
    raise TemplateError(f"template: :{_line(body, at)}: unexpected {character!r} in command")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _end_of_word(body: str, at: int) -> int:
    while at < len(body) and _is_word(body[at]):
        at += 1
    return at


def unquoted(text: str) -> str:
    """Return what a Go literal stands for."""
    if text[0] == "`":
        return text[1:-1]
    out = []
    at = 1
    while at < len(text) - 1:
        if text[at] != "\\":
            out.append(text[at])
            at += 1
            continue
        escape = text[at + 1]
        width = {"x": 2, "u": 4, "U": 8}.get(escape, 0)
        if width:
            out.append(chr(int(text[at + 2 : at + 2 + width], 16)))
        else:
            out.append(_ESCAPES.get(escape, escape))
        at += 2 + width
    return "".join(out)
