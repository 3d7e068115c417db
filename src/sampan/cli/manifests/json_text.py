"""JSON as text: laid out anew, with every token as it was written.

A manifest is known by the digest of its bytes, so what `manifest inspect` shows of it is not read
and written again, which would change numbers and escapes.
"""

from __future__ import annotations

from sampan.cli.display import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SPACE = " \t\r\n"


def indented(text: str, indent: str = "\t") -> str:
    """Return a JSON document as Go's json.Indent lays it out; the text must be valid."""
    out: list[str] = []
    depth = 0
    empty = False  # the last word opened an object or a list
    for word in _words(text):
        if word in "{[":
            if empty:
                out.append("\n" + indent * depth)
            out.append(word)
            depth += 1
            empty = True
            continue
        if word in "}]":
            depth -= 1
            if not empty:
                out.append("\n" + indent * depth)
        elif empty:
            out.append("\n" + indent * depth)
        empty = False
        if word == ",":
            word = ",\n" + indent * depth
        elif word == ":":
            word = ": "
        out.append(word)
    return "".join(out)


def _words(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        character = text[at]
        if character in SPACE:
            at += 1
            continue
        end = at + 1
        if character == '"':
            while text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            end += 1
        elif character not in "{}[],:":
            while end < len(text) and text[end] not in "{}[],:" + SPACE:
                end += 1
        yield harmless.json_text(text[at:end])
        at = end


def safe_for_html(text: str) -> str:
    """Escape what Go's encoder escapes when it writes values."""
    for character in "&<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
