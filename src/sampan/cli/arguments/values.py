"""The values of flags: one parser per kind, as Go's pflag and docker/go-units read them.

A parser takes the current value and the text given, and returns the new value; ValueError carries
the reason in Go's words.
"""

from __future__ import annotations

from sampan.spec.booleans import parse_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def boolean(_: object, text: str) -> bool:
    return parse_bool(text)


def integer(function: str, low: int, high: int) -> Callable[[Any, str], int]:
    """Return a parser for integers of a range, in any of Go's bases."""

    def parse(_: object, text: str) -> int:
        digits = text.lstrip("+-")
        base = 8 if digits[:1] == "0" and digits.isdigit() and len(digits) > 1 else 0
        try:
            if text != text.strip() or (low == 0 and text[:1] in "+-" and text):
                raise ValueError
            number = int(text, base)
        except ValueError:
            raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax') from None
        if not low <= number <= high:
            raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
        return number

    return parse


def text(_: object, value: str) -> str:
    return value


def append(current: list[str], value: str) -> list[str]:
    return [*current, value]


def put(current: dict[str, str], value: str) -> dict[str, str]:
    """Add `key=value` to a map; a key alone gets an empty value."""
    key, _, rest = value.partition("=")
    return {**current, key: rest}


def filters(current: dict[str, list[str]], value: str) -> dict[str, list[str]]:
    """Add a filter `name=value`; names are lower case."""
    if not value:
        return current
    name, equals, rest = value.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    name, rest = name.strip().lower(), rest.strip()
    return {**current, name: [*current.get(name, []), rest]}


def size(text: str) -> int:
    """Parse a size such as 1.5g or 64MiB; units are powers of 1024."""
    separator = max((text.rfind(digit) for digit in "0123456789. "), default=-1)
    if separator < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = text[:separator] if text[separator] == " " else text[: separator + 1]
    suffix = text[separator + 1 :].lower()
    try:
        if "_" in number or number != number.strip():
            raise ValueError
        value = float(number)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if value < 0:
        raise ValueError(f"invalid size: '{text}'")
    unit, tail = suffix[:1], suffix[1:]
    if unit not in UNITS or tail not in ("", "b", "ib") or (unit in ("", "b") and tail):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(value * UNITS[unit])


def memory(_: object, text: str) -> int:
    return size(text)


def memory_swap(_: object, text: str) -> int:
    return -1 if text == "-1" else size(text)


def duration(text: str) -> int:
    """Parse a duration such as 1m30s or 0.5h to nanoseconds."""
    from sampan.spec.durations import parse_duration  # regular expressions: few need them

    return parse_duration(text)


def nanoseconds(_: object, text: str) -> int:
    return duration(text)


def cpus(_: object, text: str) -> int:
    """Parse a decimal number of CPUs to billionths."""
    from fractions import Fraction

    try:
        share = Fraction(text) * 1000**3
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if share.denominator != 1:
        raise ValueError("value is too precise")
    return int(share)


def address(_: object, text: str) -> str:
    """Check an IP address."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"invalid string being converted to IP address: {text}") from None


def csv_fields(text: str) -> list[str]:
    """Split one line of CSV; a field in double quotes may contain commas.

    Raises ValueError with the message of Go's encoding/csv.
    """
    if '"' not in text:
        return text.split(",")
    fields: list[str] = []
    at = 0
    while True:
        if text[at : at + 1] == '"':
            field, at = _quoted_field(text, at + 1)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            field, at = text[at:end], end
            if '"' in field:
                raise ValueError(
                    f"parse error on line 1, column {at - len(field) + field.index(chr(34)) + 1}: "
                    'bare " in non-quoted-field'
                )
        fields.append(field)
        if at >= len(text):
            return fields
        at += 1  # the comma


def _quoted_field(text: str, at: int) -> tuple[str, int]:
    field = ""
    while True:
        end = text.find('"', at)
        if end < 0:
            raise ValueError(
                f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in '
                "quoted-field"
            )
        field += text[at:end]
        if text[end + 1 : end + 2] == '"':
            field += '"'
            at = end + 2
        elif end + 1 == len(text) or text[end + 1] == ",":
            return field, end + 1
        else:
            raise ValueError(
                f'parse error on line 1, column {end + 1}: extraneous or missing " in quoted-field'
            )


def slices(current: list[str], text: str) -> list[str]:
    """Add the values of a comma-separated list."""
    return [*current, *csv_fields(text)] if text else current


PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "bool": boolean,
    "string": text,
    "int": integer("ParseInt", -(1 << 63), (1 << 63) - 1),
    "uint16": integer("ParseUint", 0, (1 << 16) - 1),
    "uint64": integer("ParseUint", 0, (1 << 64) - 1),
    "list": append,
    "map": put,
    "filter": filters,
    "bytes": memory,
    "swap": memory_swap,
    "duration": nanoseconds,
    "decimal": cpus,
    "ip": address,
    "slice": slices,
    "mount": append,
    "network": append,
    "ulimit": append,
    "gpu-request": append,
}
EMPTY: dict[str, Any] = {
    "bool": False,
    "string": "",
    "int": 0,
    "uint16": 0,
    "uint64": 0,
    "list": [],
    "map": {},
    "filter": {},
    "bytes": 0,
    "swap": 0,
    "duration": 0,
    "decimal": 0,
    "ip": "",
    "slice": [],
    "mount": [],
    "network": [],
    "ulimit": [],
    "gpu-request": [],
}
# What help texts call a kind, where it is not the kind's own name.
SHOWN = {"swap": "bytes", "slice": "strings", "ip": "string"}
