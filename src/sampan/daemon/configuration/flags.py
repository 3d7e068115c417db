"""The daemon's command line, read as dockerd's flag package (pflag) reads its own."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.daemon.configuration.options import (
    ALIASES,
    BY_FLAG,
    BY_SHORT,
    ONLY_IN_FILE,
    OPTIONS,
    REFUSED,
    Option,
)
from sampan.spec.booleans import parse_bool

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class UsageError(Exception):
    """The command line or the configuration file is wrong; the message says how."""


def parse_flags(arguments: Sequence[str]) -> dict[str, object]:
    """Return the options that were given, by flag name."""
    given: dict[str, object] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            _take(_long(name), f"--{name}", value if equals else None, rest, given)
        elif word.startswith("-") and len(word) > 1:
            _take_short(word[1:], rest, given)
        else:
            rest.insert(0, word)
            break
    if rest:
        raise UsageError('"sampand" accepts no arguments.')
    return given


def _long(name: str) -> Option:
    name = ALIASES.get(name, name)
    if name in REFUSED:
        raise UsageError(f"--{name} is not supported: {REFUSED[name]}")
    if name not in BY_FLAG or name in ONLY_IN_FILE:
        raise UsageError(f"unknown flag: --{name}")
    return BY_FLAG[name]


def _take_short(letters: str, rest: list[str], given: dict[str, object]) -> None:
    word = letters
    while letters:
        letter, letters = letters[0], letters[1:]
        option = BY_SHORT.get(letter)
        if option is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in -{word}")
        if option.kind == "bool" and not letters.startswith("="):
            given[option.flag] = True
            continue
        value = letters.removeprefix("=") if letters else None
        _take(option, f"-{letter}, --{option.flag}", value, rest, given)
        return


def _take(
    option: Option, spelled: str, value: str | None, rest: list[str], given: dict[str, object]
) -> None:
    if value is None:
        if option.kind == "bool":
            given[option.flag] = True
            return
        if not rest:
            raise UsageError(f"flag needs an argument: {spelled}")
        value = rest.pop(0)
    try:
        parsed = parse_text(option, value)
    except ValueError as error:
        raise UsageError(f'invalid argument "{value}" for "{spelled}" flag: {error}') from error
    old = given.get(option.flag)
    if isinstance(old, list) and isinstance(parsed, list):
        old.extend(parsed)
    elif isinstance(old, dict) and isinstance(parsed, dict):
        old.update(parsed)
    else:
        given[option.flag] = parsed


def parse_text(option: Option, text: str) -> object:
    """Return the value that `text` means for an option; raises ValueError."""
    match option.kind:
        case "bool":
            return parse_bool(text)
        case "int":
            if not text.lstrip("+-").isascii() or not text.lstrip("+-").isdigit():
                raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
            return int(text)
        case "bytes":
            return parse_bytes(text)
        case "list" | "pools":
            return [text]
        case "map":
            name, _, value = text.partition("=")
            return {name: value}
    return text


def parse_bytes(text: str) -> int:
    """Return the number of bytes that "64m" means; raises ValueError."""
    lowered = text.strip().lower().removesuffix("ib").removesuffix("b")
    number = lowered.rstrip("kmgt")
    unit = lowered[len(number) :]
    if not number.isascii() or not number.isdigit() or unit not in UNITS:
        raise ValueError(f"invalid size: '{text}'")
    return int(number) * UNITS[unit]


def usage() -> str:
    """Return what --help prints."""
    lines = ["", "Usage:  sampand [OPTIONS]", "", "The daemon of Sampan", "", "Options:"]
    for option in sorted(OPTIONS, key=lambda one: one.flag):
        if option.flag in ONLY_IN_FILE:
            continue
        short = f"-{option.short}, " if option.short else "    "
        kind = "" if option.kind == "bool" else f" {option.kind}"
        default = f" (default {option.default})" if option.default not in ("", (), {}, 0) else ""
        lines.append(f"  {short}--{option.flag + kind:<30} {option.meaning}{default}")
    return "\n".join(lines) + "\n"
