"""Methods of gRPC services as coroutines: a table of them, and errors as clients want them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from sampan.build.solver import StepFailed
from sampan.errors import Forbidden, SampanError, Unauthorized, Unavailable, Unsupported

# Of all other errors clients show the sentence alone, as of BuildKit's own.
_STATUS: Final[dict[type[SampanError], Status]] = {
    Forbidden: Status.PERMISSION_DENIED,
    Unauthorized: Status.UNAUTHENTICATED,
    Unavailable: Status.UNAVAILABLE,
    Unsupported: Status.UNIMPLEMENTED,
}
Metadata = dict[str, str]
Unary = Callable[[Any, Metadata], Awaitable[Message]]
Streaming = Callable[[Any, Metadata], AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class Service:
    """A table of methods, as grpclib wants it."""

    mapping: dict[str, Handler]

    def __mapping__(self) -> dict[str, Handler]:
        return self.mapping


def unary(call: Unary, request: type, reply: type) -> Handler:
    """Return a method that answers once."""

    async def answer(stream: Stream[Any, Any]) -> None:
        message = await _message(stream)
        try:
            result = await call(message, _plain(stream))
        except (SampanError, StepFailed) as error:
            raise told(error) from error
        await stream.send_message(result)

    return Handler(answer, Cardinality.UNARY_UNARY, request, reply)


def streaming(
    call: Streaming, request: type, reply: type, head: Callable[[], Metadata] = dict
) -> Handler:
    """Return a method that answers as often as it likes; `head` goes before all answers."""

    async def answer(stream: Stream[Any, Any]) -> None:
        message = await _message(stream)
        if fields := head():
            await stream.send_initial_metadata(metadata=fields)
        try:
            async for result in call(message, _plain(stream)):
                await stream.send_message(result)
        except (SampanError, StepFailed) as error:
            raise told(error) from error

    return Handler(answer, Cardinality.UNARY_STREAM, request, reply)


async def _message(stream: Stream[Any, Any]) -> Any:
    try:
        message = await stream.recv_message()
    except DecodeError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, f"a message cannot be read: {error}") from None
    if message is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "a message was expected")
    return message


def both_ways(
    call: Callable[[Stream[Any, Any]], Awaitable[None]], request: type, reply: type
) -> Handler:
    """Return a method that gets its stream as it is."""

    async def answer(stream: Stream[Any, Any]) -> None:
        await stream.send_initial_metadata()
        try:
            await call(stream)
        except SampanError as error:
            raise told(error) from error
        except DecodeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"a message cannot be read: {error}") from None

    return Handler(answer, Cardinality.STREAM_STREAM, request, reply)


def told(error: SampanError | StepFailed) -> GRPCError:
    """Return an error as a client shows it."""
    if isinstance(error, StepFailed):
        return GRPCError(Status.UNKNOWN, error.sentence)
    return GRPCError(_STATUS.get(type(error), Status.UNKNOWN), str(error))


def _plain(stream: Stream[Any, Any]) -> Metadata:
    fields = stream.metadata.items() if stream.metadata else ()
    return {key: value for key, value in fields if isinstance(value, str)}
