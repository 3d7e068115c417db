"""Streams of JSON messages: one object per line, errors inside once the answer has begun."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec

from sampan.api.errors import sentence_of
from sampan.spec.docker.images import ErrorDetail, ProgressMessage

T = TypeVar("T")


async def begun(items: AsyncIterator[T]) -> AsyncIterator[T]:
    """Return the same items after the first one is there: what fails until then, raises here."""
    try:
        first = await anext(items)
    except StopAsyncIteration:
        return _follow([], items)
    return _follow([first], items)


async def _follow(first: list[T], items: AsyncIterator[T]) -> AsyncIterator[T]:
    try:
        for item in first:
            yield item
        async for item in items:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close:
            await close()


async def lines(messages: AsyncIterator[ProgressMessage]) -> AsyncIterator[bytes]:
    """Return the messages as lines; an error becomes the last of them."""
    try:
        async for message in messages:
            yield line(message)
    except Exception as error:  # noqa: BLE001 - the answer has begun: it can only be told inside
        yield error_line(error)


def line(message: ProgressMessage) -> bytes:
    """Return one message as Docker's stream formatter writes it: with CR LF."""
    return msgspec.json.encode(message) + b"\r\n"


def error_line(error: BaseException) -> bytes:
    """Return the message that says what stopped the operation."""
    sentence = sentence_of(error)
    return line(ProgressMessage(error_detail=ErrorDetail(message=sentence), error=sentence))
