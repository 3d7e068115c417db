"""The command line of OCI runtimes: runc's and crun's options, in one small parser.

No argparse: it costs more time to import than a container takes to start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. `key` is its name in the result; the first of `names` is shown in help."""

    names: tuple[str, ...]  # with their dashes
    help: str
    value: str = ""  # what the value is called; "" for a switch
    is_list: bool = False  # may be given several times

    @property
    def key(self) -> str:
        """The first name without dashes."""
        return self.names[0].lstrip("-")


def flag(names: str, help: str, value: str = "", *, is_list: bool = False) -> Flag:
    """Declare an option: `flag("--bundle -b", "the bundle directory", "DIR")`."""
    return Flag(tuple(names.split()), help, value, is_list)


@dataclass(slots=True)
class Arguments:
    """What was given."""

    values: dict[str, list[str]] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)

    def get(self, key: str, default: str = "") -> str:
        """Return the last value given for an option."""
        return self.values[key][-1] if self.values.get(key) else default

    def list(self, key: str) -> list[str]:
        """Return all values given for an option."""
        return self.values.get(key, [])

    def has(self, key: str) -> bool:
        """Tell whether a switch is on."""
        return self.get(key, "false") not in ("false", "0", "f", "F", "False", "FALSE")

    def number(self, key: str, default: int = 0) -> int:
        """Return the value of an option as a number; raises InvalidArgument."""
        text = self.get(key)
        try:
            return int(text) if text else default
        except ValueError:
            raise InvalidArgument(f'invalid value "{text}" for flag --{key}') from None


def parse(
    flags: Sequence[Flag], arguments: Sequence[str], *, interspersed: bool = True
) -> Arguments:
    """Split arguments into options and operands.

    `--name value`, `--name=value`, `-n value`, `-nvalue`, and, as Go's parser has it, `-name`.
    Without `interspersed` the first operand ends the options. Raises InvalidArgument.
    """
    table = {name: each for each in flags for name in each.names}
    result = Arguments()
    waiting = list(reversed(arguments))
    while waiting:
        word = waiting.pop()
        if word == "--":
            result.operands += reversed(waiting)
            break
        if not word.startswith("-") or word == "-":
            result.operands.append(word)
            if not interspersed:
                result.operands += reversed(waiting)
                break
            continue
        each, value = _match(table, word)
        if value is None:
            if not each.value:
                value = "true"
            elif waiting:
                value = waiting.pop()
            else:
                raise InvalidArgument(f"flag needs an argument: {word}")
        if each.is_list:
            result.values.setdefault(each.key, []).append(value)
        else:
            result.values[each.key] = [value]
    return result


def _match(table: Mapping[str, Flag], word: str) -> tuple[Flag, str | None]:
    """Return the option that a word names, and the value in the word itself."""
    name, equals, value = word.partition("=")
    for candidate in (name, "-" + name):
        if candidate in table:
            return table[candidate], value if equals else None
    short = table.get(word[:2])
    if short is not None and short.value and not word.startswith("--"):
        return short, word[2:].removeprefix("=")
    raise InvalidArgument(f"flag provided but not defined: {name}")


def usage(flags: Sequence[Flag]) -> str:
    """Return the options as lines of a help text."""
    rows = [
        (", ".join(each.names) + (f" {each.value}" if each.value else ""), each.help)
        for each in flags
    ]
    width = max((len(names) for names, _ in rows), default=0)
    return "".join(f"   {names:<{width}}  {text}\n" for names, text in rows)
