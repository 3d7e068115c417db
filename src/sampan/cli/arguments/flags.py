"""Command-line flags, declared as a class and parsed by the rules of Go's pflag.

    class Options:
        all: bool = flag("a", "Include containers that are not running")
        tail: str = flag("n", "Number of lines from the end", default="all")
        env: list[str] = flag("e", "Set a variable", kind="list")

The command line is the compatibility surface, so its rules and messages are pflag's; argparse and
click accept other command lines (`--rm=false`, `-it=false`, `-e -x`, `ubuntu -- ls`).
"""

from __future__ import annotations

from sampan.cli.arguments import values
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Parse = Callable[[Any, str], Any]


class UsageError(Exception):
    """The command line cannot be parsed; the message is pflag's."""


class HelpWanted(Exception):
    """--help was given, or its old spelling -h."""


class Flag:
    """One declared flag. `name` is filled in from the attribute it is assigned to."""

    def __init__(self, short: str, help: str, kind: str, default: Any, check: Parse | None) -> None:
        self.name = self.attribute = ""
        self.short = short
        self.help = help
        self.kind = kind
        self.default = default
        self.parse: Parse = check or values.PARSERS[kind]
        self.hidden = False
        self.deprecated = ""
        self.target = ""  # attribute that receives the value

    @property
    def spelling(self) -> str:
        """How messages name the flag."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def flag(
    short: str,
    help: str,
    kind: str = "",
    default: Any = None,
    check: Parse | None = None,
) -> Any:
    """Declare a flag; without `kind` the default tells: none is a bool, text is a string.

    `check(current, text)` returns the new value, or raises ValueError with pflag's reason.
    """
    if not kind:
        kind = "bool" if default is None or isinstance(default, bool) else "string"
    if default is None:
        default = values.EMPTY.get(kind)
    return Flag(short, help, kind, default, check)


def hidden(
    target: str,
    deprecated: str = "",
    kind: str = "list",
    short: str = "",
    default: Any = None,
    check: Parse | None = None,
) -> Any:
    """Declare a flag that help does not list: another spelling of `target`, or (empty) its own.

    With `deprecated`, its use is warned about.
    """
    declared = flag(short, "", kind, default, check)
    declared.hidden = True
    declared.target = target
    declared.deprecated = deprecated
    return declared


def flags_of(options: type) -> dict[str, Flag]:
    """Return the flags that a class declares, its bases' too, by name."""
    found: dict[str, Flag] = {}
    for base in reversed(options.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(value, Flag):
                value.name = attribute.rstrip("_").replace("_", "-")
                value.attribute = attribute
                value.target = value.target or attribute
                found[value.name] = value
    return found


class Parsed:
    """What a command line said: the options, the operands, and the names of the flags given."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.operands: list[str] = []
        self.changed: set[str] = set()
        self.warnings: list[str] = []


def parse(
    options: type, arguments: Sequence[str], interspersed: bool = True, own_h: bool = False
) -> Parsed:
    """Parse arguments into an instance of `options`, whose `changed` names the flags given.

    `interspersed=False` ends flags at the first operand. Raises UsageError, HelpWanted.
    """
    return _Parser(options, interspersed, own_h).parse(list(arguments))


class _Parser:
    def __init__(self, options: type, interspersed: bool, own_h: bool) -> None:
        self._flags = flags_of(options)
        self._shorts = {known.short: known for known in self._flags.values() if known.short}
        self._interspersed = interspersed
        self._own_h = own_h
        self._result = Parsed(options())
        for known in self._flags.values():
            if known.target == known.attribute:
                default = known.default
                copy = default.copy() if isinstance(default, (list, dict)) else default
                setattr(self._result.options, known.target, copy)
        self._result.options.changed = self._result.changed

    def parse(self, arguments: list[str]) -> Parsed:
        rest = iter(arguments)
        for argument in rest:
            if argument == "--":
                self._result.operands += rest
            elif argument.startswith("--"):
                self._long(argument[2:], rest)
            elif argument.startswith("-") and argument != "-":
                self._short(argument[1:], rest)
            else:
                self._result.operands.append(argument)
                if not self._interspersed:
                    self._result.operands += rest
        return self._result

    def _long(self, text: str, rest: Iterator[str]) -> None:
        name, equals, value = text.partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: --{text}")
        known = self._flags.get(name)
        if known is None:
            if name == "help":
                raise HelpWanted
            raise UsageError(f"unknown flag: --{name}")
        if not equals:
            value = "true" if known.kind == "bool" else self._next(rest, f"--{name}")
        self._set(known, value)

    def _short(self, text: str, rest: Iterator[str]) -> None:
        while text:
            letter, text = text[0], text[1:]
            known = self._shorts.get(letter)
            if known is None:
                if letter == "h" and not self._own_h:
                    raise HelpWanted
                raise UsageError(f"unknown shorthand flag: {letter!r} in -{letter}{text}")
            if text.startswith("="):
                value, text = text[1:], ""
            elif known.kind == "bool":
                value = "true"
            elif text:
                value, text = text, ""
            else:
                value = self._next(rest, f"{letter!r} in -{letter}")
            self._set(known, value)

    @staticmethod
    def _next(rest: Iterator[str], what: str) -> str:
        for value in rest:
            return value
        raise UsageError(f"flag needs an argument: {what}")

    def _set(self, known: Flag, text: str) -> None:
        options = self._result.options
        try:
            value = known.parse(getattr(options, known.target), text)
        except (ValueError, InvalidArgument) as error:
            raise UsageError(
                f'invalid argument "{text}" for "{known.spelling}" flag: {error}'
            ) from None
        setattr(options, known.target, value)
        self._result.changed.add(known.name)
        if known.deprecated:
            self._result.warnings.append(
                f"Flag --{known.name} has been deprecated, {known.deprecated}"
            )
