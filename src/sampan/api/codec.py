"""Bodies in and out: JSON as Go's encoder writes it, and as Go's decoder reads it.

Go's decoder takes keys in any case, lets null stand for "not given", and ignores what it does
not know. Clients rely on all three, so documents are normalised by their type before msgspec
checks them.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.response import Header, Response

T = TypeVar("T")
BODY_BYTES = 16 << 20  # of a JSON document
INT64_LIMIT = 1 << 63
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()
_ZERO: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}


def json_response(status: int, value: object, headers: list[Header] | None = None) -> Response:
    """Return an answer with `value` as JSON and the newline that Go's encoder adds."""
    return Response(status, _encoder.encode(value) + b"\n", headers or [])


def json_line(value: object) -> bytes:
    """Return one line of a JSON stream."""
    return _encoder.encode(value) + b"\n"


async def read_json(request: Request, kind: type[T], *, strict_type: bool = True) -> T:
    """Return the body as a `kind`; an empty body is an empty document.

    Raises InvalidArgument for another content type, broken JSON or a wrong type in any field.
    """
    if strict_type:
        check_content_type(request)
    body = await request.read(BODY_BYTES)
    return decode(body, kind) if body.strip() else msgspec.convert({}, kind)


def check_content_type(request: Request) -> None:
    """Raise InvalidArgument unless the body is declared as JSON, or there is none."""
    declared = request.headers.get("content-type")
    if not declared and request.content_length == 0:
        return
    kind = declared.partition(";")[0].strip().lower()
    if not kind:
        raise InvalidArgument(f"malformed Content-Type header ({declared}): mime: no media type")
    if kind != "application/json":
        raise InvalidArgument(
            f"unsupported Content-Type header ({declared}): must be 'application/json'"
        )


def decode(body: bytes, kind: type[T]) -> T:
    """Return the document in `body`; raises InvalidArgument in one sentence."""
    try:
        document = _decoder.decode(body)
        return msgspec.convert(_normalise(document, kind), kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        if "trailing characters" in str(error):
            raise InvalidArgument("unexpected content after JSON") from error
        raise InvalidArgument(f"invalid JSON: {error}") from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument("invalid JSON: the document is nested too deeply") from error


def _normalise(value: Any, kind: Any) -> Any:
    """Return `value` with keys as `kind` spells them and without its nulls."""
    kind, nullable = _unwrap(kind)
    if value is None:
        return None if nullable else _zero(kind)
    origin = get_origin(kind) or kind
    if isinstance(value, int) and not -INT64_LIMIT <= value < INT64_LIMIT:
        raise InvalidArgument(f"invalid JSON: number {value} is out of range")
    if isinstance(value, dict):
        if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
            return _normalise_struct(value, origin)
        if origin is dict and (arguments := get_args(kind)):
            return {key: _normalise(item, arguments[1]) for key, item in value.items()}
    elif isinstance(value, list) and origin in (list, tuple) and (arguments := get_args(kind)):
        return [_normalise(item, arguments[0]) for item in value]
    return value


def _normalise_struct(value: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    by_name, by_folded = _fields(kind)
    known: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in by_name else by_folded.get(key.lower(), "")
        if name and item is not None:
            known[name] = _normalise(item, by_name[name])
    return known


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, str]]:
    by_name = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return by_name, {name.lower(): name for name in by_name}


@cache
def _unwrap(kind: Any) -> tuple[Any, bool]:
    """Return the type without `| None` and `| UnsetType`, and whether None was among them."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, kind is Any or kind is None
    members = [one for one in get_args(kind) if one not in (type(None), msgspec.UnsetType)]
    return (members[0] if len(members) == 1 else Any), type(None) in get_args(kind)


def _zero(kind: Any) -> Any:
    """Return Go's zero value, which null means inside lists and maps."""
    origin = get_origin(kind) or kind
    if origin is list:
        return []
    if origin is dict or (isinstance(origin, type) and issubclass(origin, msgspec.Struct)):
        return {}
    return _ZERO.get(origin)
