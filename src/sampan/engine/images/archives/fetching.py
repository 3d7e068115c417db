"""Archives on the web, for `import` of an address.

Source: moby daemon/builder/remotecontext/remote.go, GetWithStatusError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sampan.engine.images.feeding import from_task
from sampan.engine.images.reports import Report
from sampan.errors import (
    Forbidden,
    InvalidArgument,
    NotFound,
    SampanError,
    Unauthorized,
    Upstream,
)
from sampan.http.client import Client
from sampan.http.exchange import Answer
from sampan.http.faults import Fault
from sampan.http.proxies import Proxies
from sampan.http.pump import Halt
from sampan.http.urls import Url

_REDIRECTS: Final = 10  # as Go's client
_EXPLANATION: Final = 64 << 10  # bytes of the body of a refusal
_REFUSALS: Final[dict[int, type[SampanError]]] = {
    400: InvalidArgument,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive that has begun to come."""

    size: int  # 0 if the server does not say
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def fetched(address: Url) -> AsyncIterator[Fetched]:
    """Give the body of a web page. Raises what its server, or the way to it, says against it."""
    async with Client(proxies=Proxies.from_environment()) as client:
        answer = await _get(client, address)
        async with answer:
            if answer.status >= 400:
                raise await _refusal(address, answer)

            async def pour(into: int) -> None:
                def sink(data: memoryview, halt: Halt) -> None:
                    halt.write(into, data)

                try:
                    await answer.pour(sink)
                except Fault as fault:
                    raise Upstream(f"{fault}") from fault
                except BrokenPipeError:
                    pass  # the reader says why

            async with from_task(pour) as chunks:
                yield Fetched(answer.content_length or 0, chunks)


async def _get(client: Client, address: Url) -> Answer:
    url = address
    for _ in range(_REDIRECTS):
        try:
            answer = await client.send("GET", url)
        except Fault as fault:
            kind = NotFound if "no such host" in str(fault) else Upstream
            raise kind(f'Get "{url}": {fault}') from fault
        location = answer.headers.get("location")
        if answer.status not in (301, 302, 303, 307, 308) or not location:
            return answer
        answer.close()
        url = url.join(location)
    raise Upstream(f'Get "{url}": stopped after {_REDIRECTS} redirects')


async def _refusal(address: Url, answer: Answer) -> SampanError:
    message = f"failed to GET {address} with status {answer.status} {answer.reason}".rstrip()
    try:
        body = (await answer.read(_EXPLANATION)).strip()
        message += f": {body.decode('utf-8', 'replace')}"
    except Fault:
        message += ": error reading body"
    return _REFUSALS.get(answer.status, Upstream)(message)


async def counted(archive: Fetched, report: Report) -> AsyncIterator[bytes]:
    """Yield an archive, and tell how far it is."""
    done = 0
    async for chunk in archive.chunks:
        done += len(chunk)
        report.advance("", "Importing", done, archive.size)
        yield chunk
