"""Text of others on the user's terminal: control characters are shown, never obeyed.

A registry, an image or a daemon may send escape sequences that retitle a terminal, move its cursor
over what was printed before, or type for the user. They become the letters of their code points.
"""

from __future__ import annotations

_CONTROLS = [*range(0x20), 0x7F, *range(0x80, 0xA0)]
# Besides the controls: what turns the direction of writing, so that a name reads as another one.
_DIRECTIONS = [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_NAMES = {code: f"\\x{code:02x}" for code in _CONTROLS} | {
    code: f"\\u{code:04x}" for code in _DIRECTIONS
}
# Halves of pairs, which JSON can have; some would be written as bytes that are controls.
_NAMES |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_TEXT = {code: name for code, name in _NAMES.items() if code not in (0x09, 0x0A)}
_JSON = {code: f"\\u{code:04x}" for code in [*range(0x7F, 0xA0), *_DIRECTIONS]}
_STREAM = {code: name for code, name in _TEXT.items() if code != 0x0D}


def line(text: str) -> str:
    """Return text for one line: no controls at all."""
    return text if _is_plain(text) else text.translate(_NAMES)


def lines(text: str) -> str:
    """Return text that may have several lines and tabs."""
    return text if _is_plain(text) else text.translate(_TEXT)


def stream(text: str) -> str:
    """Return a piece of a program's output: it may go back to the beginning of its line."""
    return text if _is_plain(text) else text.translate(_STREAM)


def json_text(text: str) -> str:
    """Return JSON in which the controls that it allows in strings are escaped: the same values."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_JSON)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
