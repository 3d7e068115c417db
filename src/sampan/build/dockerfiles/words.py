"""The forms that the arguments of an instruction may have.

Source: moby buildkit frontend/dockerfile/parser/line_parsers.go (rules and messages).
"""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from sampan.errors import InvalidArgument

_BLANKS: Final = re.compile(r"\s+")


def json_list(text: str) -> list[str] | None:
    """Return the exec form, a JSON list of strings; None if `text` is in the shell form."""
    text = text.strip()
    if not text.startswith("["):
        return None
    try:
        values = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list):
        return None
    if not all(isinstance(value, str) for value in values):
        raise InvalidArgument(
            "when using JSON array syntax, arrays must be comprised of strings only"
        )
    return values


def words(text: str) -> list[str]:
    """Split at blanks, whatever is quoted."""
    return text.split()


def json_or_words(text: str) -> list[str]:
    """Return a JSON list, or else what blanks divide."""
    listed = json_list(text)
    return words(text) if listed is None else listed


def quoted_words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks; quotes and escapes keep blanks in a word, and stay in it."""
    found: list[str] = []
    word: list[str] = []
    quote, at = "", 0
    while at < len(text):
        letter = text[at]
        if letter == escape and quote != "'" and at + 1 == len(text):
            break  # it has nothing to take the meaning of
        if letter == escape and quote != "'":
            word.append(letter + text[at + 1])
            at += 2
            continue
        if not quote and letter.isspace():
            if word:
                found.append("".join(word))
            word = []
        else:
            word.append(letter)
            if quote:
                quote = "" if letter == quote else quote
            elif letter in "'\"":
                quote = letter
        at += 1
    return [*found, "".join(word)] if word else found


def pairs(name: str, text: str, escape: str = "\\") -> tuple[list[tuple[str, str]], bool]:
    """Return NAME=VALUE pairs, and whether they are in the old form `NAME the rest`."""
    if not text:
        raise InvalidArgument(f"{name} requires at least one argument")
    found = quoted_words(text, escape)
    if "=" not in found[0]:
        key, *value = _BLANKS.split(text.strip(), maxsplit=1)
        if not value:
            raise InvalidArgument(f"{name} must have two arguments")
        return [(key, value[0])], True
    result = []
    for word in found:
        key, equals, given = word.partition("=")
        if not equals:
            raise InvalidArgument(
                f"Syntax error - can't find = in {json.dumps(word, ensure_ascii=False)}."
                " Must be of the form: name=value"
            )
        if not key:
            raise InvalidArgument(f"{name} names can not be blank")
        result.append((key, given))
    return result, False
