"""Help texts, laid out as docker lays them out (cobra's template, pflag's columns)."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import Flag, flags_of
from sampan.cli.arguments.values import SHOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

WIDTH = 80
ORPHAN = 5  # a line may be this much longer if that avoids a last line of one short word
NARROW = 24  # below this there is no sense in wrapping
PROGRAM = "sampan"


def command_help(path: str, module: ModuleType, width: int = WIDTH) -> str:
    """Return the help of one command; its docstring's first line is the short text."""
    text = f"Usage:  {use_line(path, module)}\n\n{long_text(module)}\n"
    aliases = getattr(module, "ALIASES", "")
    if aliases:
        names = ", ".join(f"{PROGRAM} {alias}" for alias in aliases.split(", "))
        text += f"\nAliases:\n  {names}\n"
    shown = flag_lines(flags_of(module.Options).values(), width)
    return text + (f"\nOptions:\n{shown}" if shown else "")


def use_line(path: str, module: ModuleType) -> str:
    """Return `sampan run [OPTIONS] IMAGE …`; a USAGE of several lines has one per way to call."""
    options = "[OPTIONS] " if any(not f.hidden for f in flags_of(module.Options).values()) else ""
    lines = [
        f"{PROGRAM} {path} {options}{operands}".rstrip() for operands in module.USAGE.split("\n")
    ]
    return "\n\t".join(lines)


def short_text(module: ModuleType) -> str:
    """Return the first line of the docstring without its full stop."""
    return (module.__doc__ or "").partition("\n")[0].rstrip(".")


def long_text(module: ModuleType) -> str:
    """Return the docstring up to the part that is for readers of the source."""
    text = getattr(module, "LONG", "")
    return f"{short_text(module)}\n\n{text.strip()}" if text else short_text(module)


def group_help(path: str, about: str, commands: Mapping[str, str]) -> str:
    """Return the help of a group of commands, given their short texts."""
    return (
        f"Usage:  {PROGRAM} {path} COMMAND\n\n{about}\n\nCommands:\n{name_lines(commands)}\n"
        f"Run '{PROGRAM} {path} COMMAND --help' for more information on a command.\n"
    )


def name_lines(commands: Mapping[str, str]) -> str:
    """Return a column of names beside their texts."""
    longest = max(11, *(len(name) for name in commands))
    return "".join(f"  {name:<{longest}} {text}\n" for name, text in commands.items())


def flag_lines(flags: Iterable[Flag], width: int = WIDTH) -> str:
    """Return the flags, sorted, with their texts wrapped."""
    rows = []
    for known in sorted(flags, key=lambda known: known.name):
        if known.hidden:
            continue
        head = f"  -{known.short}, --{known.name}" if known.short else f"      --{known.name}"
        kind = SHOWN.get(known.kind, known.kind)
        rows.append((head if kind == "bool" else f"{head} {kind}", known))
    column = max((len(head) for head, _ in rows), default=0) + 3
    return "".join(
        f"{head:<{column}}{wrapped(known.help + default_text(known), column, width)}\n"
        for head, known in rows
    )


def default_text(known: Flag) -> str:
    """Return ` (default …)` unless the default is the empty value."""
    default = known.default
    if not default or isinstance(default, (list, dict)):
        return ""
    if isinstance(default, bool):
        return " (default true)"
    return f' (default "{default}")' if isinstance(default, str) else f" (default {default})"


def wrapped(text: str, indent: int, width: int) -> str:
    """Wrap text that begins in column `indent`, as pflag does."""
    room = width - 1 - indent
    begin = ""
    if room < NARROW:
        indent, room = 16, width - 1 - 16
        begin = "\n" + " " * indent
        if room < NARROW:
            return text.replace("\n", begin)
    room -= ORPHAN
    lines = []
    while True:
        line, text = _first_line(text, room)
        lines.append(line.replace("\n", "\n" + " " * indent))
        if not text:
            return begin + ("\n" + " " * indent).join(lines)


def _first_line(text: str, room: int) -> tuple[str, str]:
    if room + ORPHAN > len(text):
        return text, ""
    blank = max(text.rfind(character, 0, room) for character in " \t\n")
    if blank <= 0:
        return text, ""
    newline = text.rfind("\n", 0, room)
    if 0 < newline < blank:
        blank = newline
    return text[:blank], text[blank + 1 :]


def terminal_width() -> int:
    """Return the width of the terminal on standard input, 80 without one."""
    try:
        return os.get_terminal_size(0).columns or WIDTH
    except OSError:
        return WIDTH
