"""The functions of templates: Go's own and docker's."""

from __future__ import annotations

from sampan.cli.template.lexer import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Nil:
    """A null of a type that Go prints otherwise than `<nil>`: a list's is `[]`, a map's `map[]`."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


def truth(value: Any) -> bool:
    """Go's truth: everything but false, 0, nil and what is empty."""
    return bool(value)


def shown(value: Any) -> str:
    """Format a value as Go's %v does."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Nil):
        return value.text
    if isinstance(value, dict):
        # What is empty inside of a map is a structure: a set, as ExposedPorts and Volumes are.
        pairs = (
            f"{key}:{shown(value[key]) if value[key] != {} else '{}'}" for key in sorted(value)
        )
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(shown, value))}]"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e21:
        return f"{value:e}".replace("e+0", "e+0")
    return str(int(value)) if value == int(value) else repr(value)


def to_json(value: Any) -> str:
    """Format as Go's encoder does: no spaces, keys in order."""
    import json

    rows = False

    def plain(item: Any) -> Any:
        nonlocal rows
        document = getattr(item, "document", None)
        if not callable(document):
            return None
        rows = True
        return document()

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=plain)
    if not text.isascii():
        from sampan.cli.display import harmless

        text = harmless.json_text(text)
    if not rows:
        return text
    # docker passes rows through an encoder that keeps them safe for HTML
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def join(items: Any, separator: str = "") -> str:
    if not items:
        return ""
    if isinstance(items, dict):
        return separator.join(sorted(map(shown, items.values())))
    if not isinstance(items, (list, tuple)):
        raise TemplateError(f"expected slice, got {type_name(items)}")
    return separator.join(map(shown, items))


def index(item: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(item, dict):
            # A map of texts has an empty text for every key that it does not have.
            texts = all(isinstance(value, str) for value in item.values())
            item = item.get(key if isinstance(key, str) else str(key), "" if texts else None)
        elif isinstance(item, Nil):
            item = ""
        elif isinstance(item, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateError(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(item):
                raise TemplateError(f"index out of range: {key}")
            item = ord(item[key]) if isinstance(item, str) else item[key]
        elif item is None:
            raise TemplateError("index of untyped nil")
        else:
            raise TemplateError(f"can't index item of type {type_name(item)}")
    return item


def slice_(item: Any, *bounds: int) -> Any:
    if not isinstance(item, (list, tuple, str)):
        raise TemplateError(f"can't slice item of type {type_name(item)}")
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(item)
    if not 0 <= low <= high <= len(item):
        raise TemplateError(f"index out of range: {high if high > len(item) else low}")
    return item[low:high]


def length(item: Any) -> int:
    if isinstance(item, (str, list, tuple, dict, Nil)):
        return len(item.encode()) if isinstance(item, str) else len(item)
    raise TemplateError(f"len of type {type_name(item)}" if item is not None else "len of nil")


def type_name(value: Any) -> str:
    """Name a value's type as Go would."""
    names = {bool: "bool", int: "int", float: "float64", str: "string", type(None): "nil"}
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    return names.get(type(value), type(value).__name__)


def equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Any, second: Any) -> bool:
    kinds = [_kind(first), _kind(second)]
    if None not in (first, second) and kinds[0] != kinds[1]:
        raise TemplateError("incompatible types for comparison")
    return bool(first == second)


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _ordered(first: Any, second: Any) -> None:
    if _kind(first) != _kind(second):
        raise TemplateError("incompatible types for comparison")
    if _kind(first) not in ("number", "str"):
        raise TemplateError("invalid type for comparison")


def less(first: Any, second: Any) -> bool:
    _ordered(first, second)
    return bool(first < second)


def less_or_equal(first: Any, second: Any) -> bool:
    _ordered(first, second)
    return bool(first <= second)


def print_(*items: Any) -> str:
    """Go's Sprint: a space between operands when neither is text."""
    out = ""
    for at, item in enumerate(items):
        if at and not isinstance(item, str) and not isinstance(items[at - 1], str):
            out += " "
        out += shown(item)
    return out


def println(*items: Any) -> str:
    return " ".join(map(shown, items)) + "\n"


def printf(format: str, *items: Any) -> str:
    """Go's Sprintf for %s %d %v %q %t %x %f %e %g %c with flags, width and precision."""
    import re

    rest = list(items)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        return _verb(flags, verb, rest.pop(0))

    out = re.sub(r"%([-+# 0]*\d*(?:\.\d*)?)([a-zA-Z%])", one, format)
    extra = ", ".join(f"{type_name(item)}={shown(item)}" for item in rest)
    return f"{out}%!(EXTRA {extra})" if extra else out


def _verb(flags: str, verb: str, item: Any) -> str:
    if verb in ("v", "s") or (verb == "t" and isinstance(item, bool)):
        return f"%{flags.replace('0', '', 1) if flags[:1] == '0' else flags}s" % shown(item)
    if verb == "q":
        return f"%{flags}s" % quoted(shown(item))
    number = isinstance(item, (int, float)) and not isinstance(item, bool)
    if verb in "dxXo" and number and isinstance(item, int):
        return str(f"%{flags}{verb}" % item)
    if verb in ("x", "X") and isinstance(item, str):
        return f"%{flags}s" % item.encode().hex()
    if verb in "feEgG" and number:
        return str(f"%{flags}{verb}" % item)
    if verb == "c" and isinstance(item, int):
        return f"%{flags}s" % chr(item)
    return f"%!{verb}({type_name(item)}={shown(item)})"


def quoted(text: str) -> str:
    """Write text as a Go string literal."""
    names = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a"}
    names |= {"\b": "\\b", "\f": "\\f", "\v": "\\v"}
    out = []
    for character in text:
        if character in names:
            out.append(names[character])
        elif character.isprintable():
            out.append(character)
        elif ord(character) < 0x80:
            out.append(f"\\x{ord(character):02x}")
        else:
            out.append(f"\\u{ord(character):04x}")
    return '"' + "".join(out) + '"'


def split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def title(text: str) -> str:
    """Make the first letter of every word upper case."""
    before = [" ", *text[:-1]]
    return "".join(
        letter if previous.isalnum() or previous in "_'" else letter.upper()
        for previous, letter in zip(before, text, strict=True)
    )


def pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def truncate(text: str, most: int) -> str:
    return text[:most]


def html(*items: Any) -> str:
    import html as escapes

    return escapes.escape(print_(*items)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def urlquery(*items: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(print_(*items))


def not_(value: Any) -> bool:
    return not truth(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": to_json,
    "split": split,
    "join": join,
    "title": title,
    "lower": lambda text: _text(text).lower(),
    "upper": lambda text: _text(text).upper(),
    "pad": pad,
    "truncate": truncate,
    "index": index,
    "slice": slice_,
    "len": length,
    "not": not_,
    "eq": equal,
    "ne": lambda first, second: not _same(first, second),
    "lt": less,
    "le": less_or_equal,
    "gt": lambda first, second: not less_or_equal(first, second),
    "ge": lambda first, second: not less(first, second),
    "print": print_,
    "println": println,
    "printf": printf,
    "html": html,
    "urlquery": urlquery,
}
# These stop at the first operand that decides.
LAZY = frozenset(("and", "or"))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"wrong type for value; expected string; got {type_name(value)}")
    return value
