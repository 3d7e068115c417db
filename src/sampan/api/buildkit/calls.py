"""Methods of gRPC services as coroutines: a table of them, and errors as clients want them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from sampan.build.dockerfiles.faults import Fault, fault_of
from sampan.build.solver import StepFailed
from sampan.errors import Forbidden, SampanError, Unauthorized, Unavailable, Unsupported
from sampan.spec.buildkit import errors_pb2, solver_pb2

# Of all other errors clients show the sentence alone, as of BuildKit's own.
_STATUS: Final[dict[type[SampanError], Status]] = {
    Forbidden: Status.PERMISSION_DENIED,
    Unauthorized: Status.UNAUTHENTICATED,
    Unavailable: Status.UNAVAILABLE,
    Unsupported: Status.UNIMPLEMENTED,
}
_LANGUAGE: Final = "Dockerfile"
_LINES: Final = 1000  # that are marked at most
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
    """Return an error as a client shows it: with the lines of the Dockerfile by themselves."""
    status = _STATUS.get(type(error), Status.UNKNOWN) if isinstance(error, SampanError) else None
    sentence = error.sentence if isinstance(error, StepFailed) else str(error)
    fault = fault_of(error)
    if fault is None:
        return GRPCError(status or Status.UNKNOWN, sentence)
    return GRPCError(status or Status.UNKNOWN, fault.sentence, [_source(fault)])


def _source(fault: Fault) -> errors_pb2.Source:
    info = solver_pb2.SourceInfo(filename=fault.name, data=fault.content, language=_LANGUAGE)
    lines = [
        solver_pb2.Range(start=solver_pb2.Position(line=it), end=solver_pb2.Position(line=it))
        for it in range(fault.first, min(fault.last, fault.first + _LINES) + 1)
    ]
    return errors_pb2.Source(info=info, ranges=lines)


def _plain(stream: Stream[Any, Any]) -> Metadata:
    fields = stream.metadata.items() if stream.metadata else ()
    return {key: value for key, value in fields if isinstance(value, str)}
