"""One repository of a registry: manifests, blobs and tags by the OCI distribution API."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sampan.distribution.downloads import Download, Into, WrongContent, wrong_content
from sampan.distribution.foreign import fetch_foreign
from sampan.distribution.lists import Referrers, Tags, all_pages
from sampan.distribution.manifests import (
    ACCEPT,
    MANIFEST_BYTES,
    Fetched,
    checked,
    digest_by,
    told_digest,
)
from sampan.distribution.refusals import Refusal, plain
from sampan.distribution.session import Memory, Session, expect
from sampan.distribution.transport import Call, FailedRequest, Header
from sampan.distribution.uploads import (
    COMMIT_SECONDS,
    Advance,
    Farewell,
    Read,
    Replay,
    Upload,
    known_reader,
    next_location,
)
from sampan.errors import Forbidden, InvalidArgument, NotFound, SampanError, Unauthorized, Upstream
from sampan.http.exchange import Answer
from sampan.http.urls import Url
from sampan.spec.digest import Digest, algorithm, digest_of, parse_digest
from sampan.spec.image import Descriptor
from sampan.spec.reference import Reference

log = logging.getLogger(__name__)
T = TypeVar("T")
_MIRROR_ATTEMPTS = 2
_ACCEPT: tuple[Header, ...] = (("Accept", ACCEPT),)


class Repository:
    """A repository as one user sees it. Made by `Registries.repository`.

    What every method may raise: NotFound (also where Docker Hub says "denied" to a pull),
    Unauthorized, Forbidden, Upstream (a registry that cannot be reached, fails or lies),
    each with Docker's sentence. Network failures and 5xx, 429 are retried inside.
    """

    def __init__(
        self,
        reference: Reference,
        sessions: Sequence[Session],
        memory: Memory,
        farewell: Farewell,
    ) -> None:
        """`sessions` are those of the mirrors, then that of the registry itself."""
        self.reference = reference.trimmed()
        self._sessions = list(sessions)
        self._memory = memory
        self._farewell = farewell
        self._without: set[str] = set()  # mirrors that do not have this repository
        self._opened: list[Url] = []  # uploads that a registry began in place of a mount

    @property
    def _origin(self) -> Session:
        return self._sessions[-1]

    def _path(self, session: Session) -> str:
        return f"{session.endpoint.prefix}{self.reference.path}"

    # --- manifests ---------------------------------------------------------------------------

    async def manifest(self, reference: str | Digest) -> Fetched:
        """Return the manifest or index that a tag or a digest stands for, checked.

        Its digest is right, its content is of the type it says, it has at most 4 MiB. Schema 1
        is refused with Unsupported.
        """
        return await self._pull(reference, lambda session: self._manifest(session, reference))

    async def _manifest(self, session: Session, reference: str | Digest) -> Fetched:
        path = f"{self._path(session)}/manifests/{reference}"
        async with await session.send(path, Call("GET", _ACCEPT)) as answer:
            await expect(answer, 200)
            content = await session.transport.read(answer, MANIFEST_BYTES)
            return checked(
                content,
                answer.headers.get("content-type"),
                answer.headers.get("docker-content-digest"),
                _as_digest(reference),
                self._name(reference),
            )

    async def head(self, reference: str | Digest) -> Descriptor | None:
        """Return what a tag or digest stands for, without its content; None if there is none."""
        return await self._pull_if_there(lambda session: self._head(session, reference))

    async def _head(self, session: Session, reference: str | Digest) -> Descriptor:
        path = f"{self._path(session)}/manifests/{reference}"
        async with await session.send(path, Call("HEAD", _ACCEPT)) as answer:
            if answer.status != 405:
                await expect(answer, 200)
                digest = told_digest(answer.headers.get("docker-content-digest"))
                kind = answer.headers.get("content-type").partition(";")[0].strip()
                size = answer.content_length
                if digest is not None and size is not None and kind:
                    if digest != (_as_digest(reference) or digest):
                        raise Upstream(f"manifest verification failed for digest {reference}")
                    return Descriptor(media_type=plain(kind), digest=digest, size=size)
        return (await self._manifest(session, reference)).descriptor

    async def put_manifest(
        self, reference: str | Digest, media_type: str, content: bytes
    ) -> Digest:
        """Store a manifest or index under a tag or its digest; return its digest."""
        asked = _as_digest(reference)
        digest = digest_by(algorithm(asked), content) if asked else digest_of(content)
        if asked and asked != digest:
            raise InvalidArgument(f"the manifest has the digest {digest}, not {asked}")
        path = f"{self._path(self._origin)}/manifests/{reference}"
        headers = (("Content-Type", media_type),)

        async def put(session: Session) -> Digest:
            call = Call("PUT", headers, content, COMMIT_SECONDS)
            async with await session.send(path, call) as answer:
                await expect(answer, 200, 201, 202)
                told = told_digest(answer.headers.get("docker-content-digest"))
                if told is not None and told != digest_by(algorithm(told), content):
                    raise Upstream(f"the registry has stored {digest} as {told}")
            return digest

        return await self._push(put)

    # --- blobs -------------------------------------------------------------------------------

    async def has_blob(self, digest: Digest) -> int | None:
        """Return the size of a blob; None if the repository has none of this digest."""

        async def ask(session: Session) -> int:
            path = f"{self._path(session)}/blobs/{digest}"
            async with await session.send(path, Call("HEAD")) as answer:
                await expect(answer, 200)
                return answer.content_length or 0

        return await self._pull_if_there(ask)

    async def fetch_blob(self, descriptor: Descriptor, into: Into, advance: Advance) -> None:
        """Write a blob into something, never more than its size, and check size and digest.

        The bytes are written before the digest can be known: drop them if this raises. Broken
        connections are taken up again where they broke. Raises Upstream if the content is not
        what the descriptor says, OSError if `into` fails (BrokenPipeError: the reader is gone).
        """
        download = Download(descriptor, into, advance)

        async def fetch(session: Session) -> None:
            path = f"{self._path(session)}/blobs/{descriptor.digest}"

            async def ask(headers: Sequence[Header]) -> Answer:
                return await session.send(path, Call("GET", tuple(headers), attempts=1))

            is_mirror = session.endpoint.is_mirror
            most = session.transport.config.max_attempts
            await download.run(
                ask, session.transport, min(most, _MIRROR_ATTEMPTS) if is_mirror else most
            )

        try:
            if not await fetch_foreign(download, self._origin.transport):
                await self._pull(Digest(descriptor.digest), fetch)
        except WrongContent as error:
            raise wrong_content(descriptor, error) from None

    async def mount(self, digest: Digest, from_repository: str) -> bool:
        """Make a blob of another repository (its path) of this registry one of this repository.

        False if the registry did not: the blob has to be uploaded.
        """
        query = f"mount={digest}&from={from_repository}"
        scope = f"repository:{from_repository}:pull"

        async def ask(session: Session) -> bool:
            path = f"{self._path(session)}/blobs/uploads/?{query}"
            async with await session.send(path, Call("POST"), [scope]) as answer:
                if answer.status == 202:
                    self._opened.append(next_location(answer))
                return answer.status == 201

        return await self._push(ask)

    async def upload(self, read: Read, advance: Advance) -> tuple[Digest, int]:
        """Upload a blob whose digest is not known yet; return its SHA-256 digest and its size."""
        replay = Replay(read, advance)

        async def send(session: Session) -> Digest:
            return await self._upload(session, replay).run()

        return await self._push(send), replay.size

    async def upload_known(self, descriptor: Descriptor, read: Read, advance: Advance) -> None:
        """Upload a blob of known digest and size; Upstream if `read` gives something else."""
        digest = parse_digest(descriptor.digest)
        replay = known_reader(digest, read, advance)

        async def send(session: Session) -> None:
            began = digest.startswith("sha256:")  # for which registries begin uploads
            await self._upload(session, replay, began).run(digest, descriptor.size)

        await self._push(send)

    def _upload(self, session: Session, replay: Replay, began: bool = True) -> Upload:
        """Return an upload; one that a registry has begun is not left behind."""
        place = self._opened.pop() if began and self._opened else None
        return Upload(session, self._path(session), replay, self._farewell, place)

    # --- tags --------------------------------------------------------------------------------

    async def tags(self) -> list[str]:
        """Return all tags, in the registry's order."""
        return await self._pull("", self._tags)

    async def _tags(self, session: Session) -> list[str]:
        path = f"{self._path(session)}/tags/list"
        return await all_pages(session, path, Tags, lambda page: page.tags, "tags")

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """Return descriptors of what is attached to a manifest; that need not be there itself.

        Registries without that part of the API have an index under a tag instead (OCI
        distribution specification, "Referrers Tag Schema").
        """
        return await self._pull(digest, lambda session: self._referrers(session, digest))

    async def _referrers(self, session: Session, digest: Digest) -> list[Descriptor]:
        def items(page: Referrers) -> list[Descriptor] | None:
            return page.manifests

        path = self._path(session)
        for place in (f"referrers/{digest}", f"manifests/{digest.replace(':', '-', 1)}"):
            try:
                return await all_pages(session, f"{path}/{place}", Referrers, items, "referrers")
            except Refusal as error:
                if error.status != 404:
                    raise
        return []

    # --- endpoints and errors ----------------------------------------------------------------

    async def _pull(self, reference: str, ask: Callable[[Session], Awaitable[T]]) -> T:
        try:
            return await self._ask_each(ask)
        except Refusal as error:
            raise self._refused_pull(error, reference) from None
        except FailedRequest as error:
            raise error.error() from None

    async def _pull_if_there(self, ask: Callable[[Session], Awaitable[T]]) -> T | None:
        try:
            return await self._ask_each(ask)
        except Refusal as error:
            if error.is_missing:
                return None
            raise self._refused_pull(error, "") from None
        except FailedRequest as error:
            raise error.error() from None

    async def _ask_each(self, ask: Callable[[Session], Awaitable[T]]) -> T:
        """Ask the mirrors, and then the registry itself."""
        for session in self._sessions[:-1]:
            name = session.endpoint.name
            if name in self._without or self._memory.is_down(name):
                continue
            try:
                return await ask(session)
            except FailedRequest as error:
                self._memory.note_down(name)
                log.warning("mirror %s of %s failed: %s", name, self.reference.domain, error)
            except (Refusal, SampanError) as error:
                self._without.add(name)
                log.info("mirror %s has no %s: %s", name, self.reference.path, error)
            except WrongContent as error:
                if not error.is_clean:
                    raise
                self._without.add(name)
                log.warning("mirror %s lies about %s: %s", name, self.reference.path, error)
        return await ask(self._origin)

    async def _push(self, ask: Callable[[Session], Awaitable[T]]) -> T:
        try:
            return await ask(self._origin)
        except Refusal as error:
            raise error.error() from None
        except FailedRequest as error:
            raise error.error() from None

    def _refused_pull(self, error: Refusal, reference: str) -> SampanError:
        """Return a refusal as Docker says it.

        Source: moby distribution/errors.go, translatePullError.
        """
        name = self.reference.familiar_name
        told = error.error()
        if isinstance(told, Forbidden):
            return NotFound(
                f"pull access denied for {name}, repository does not exist or may require"
                f" 'docker login': {error}"
            )
        if error.code == "NAME_UNKNOWN":
            return NotFound(f"repository {name} not found: {error}")
        if error.code == "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {self._name(reference)} not found: {error}")
        if isinstance(told, Unauthorized):
            request = error.request or f'Get "{self._origin.url()}": '
            return Unauthorized(f"{request}{error}")
        return told

    def _name(self, reference: str) -> str:
        mark = "@" if ":" in reference else ":"
        return f"{self.reference.familiar_name}{mark}{reference}"


def _as_digest(reference: str | Digest) -> Digest | None:
    return parse_digest(reference) if ":" in reference else None
