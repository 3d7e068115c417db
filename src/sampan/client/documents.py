"""JSON documents of the API to Python values and back, without the import of `json`.

`json` needs `re` and `enum`: 4 ms of the 12 that a start of the command line has to itself. The C
scanner below it needs neither; where an interpreter lacks it, `json` does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SPACE = " \t\n\r"


class _Rules:
    """What the scanner asks of a JSONDecoder: the rules of `json.loads`."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {
        "NaN": float("nan"),
        "Infinity": float("inf"),
        "-Infinity": float("-inf"),
    }.__getitem__


def decode(data: bytes) -> Any:
    """Return the value of a JSON document. Raises ValueError."""
    values = decode_all(data)
    if len(values) != 1:
        raise ValueError("no JSON value" if not values else "more than one JSON value")
    return values[0]


def decode_all(data: bytes) -> list[Any]:
    """Return the values of JSON documents that follow each other. Raises ValueError."""
    text = data.decode("utf-8", "surrogatepass")
    scan = _scanner()
    values = []
    at = len(text) - len(text.lstrip(SPACE))
    while at < len(text):
        try:
            value, at = scan(text, at)
        except StopIteration as error:
            raise ValueError(f"no JSON value at character {error.value}") from None
        except RecursionError:
            raise ValueError("too deeply nested") from None
        values.append(value)
        while at < len(text) and text[at] in SPACE:
            at += 1
    return values


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner
    except ImportError:
        return _scan_slowly
    return make_scanner(_Rules())  # type: ignore[arg-type]


def _scan_slowly(text: str, at: int) -> tuple[Any, int]:
    from json import JSONDecodeError, JSONDecoder

    try:
        return JSONDecoder().raw_decode(text, at)
    except JSONDecodeError as error:
        raise StopIteration(error.pos) from None


def encode(value: Any) -> bytes:
    """Return a JSON document without spaces: of None, bool, int, float, str, list, tuple, dict."""
    return _text(value).encode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return f"{{{','.join([f'{_quoted(str(k))}:{_text(v)}' for k, v in value.items()])}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _quoted(text: str) -> str:
    try:
        from _json import encode_basestring as quote
    except ImportError:
        from json.encoder import py_encode_basestring as quote
    return quote(text)
