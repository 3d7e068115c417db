"""One repository of a registry: manifests, blobs and tags by the OCI distribution API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sampan.errors import Unsupported
from sampan.spec.digest import Digest
from sampan.spec.image import Descriptor
from sampan.spec.reference import Reference

Advance = Callable[[int], None]
"""Told how many more bytes have gone; called in the thread of the transfer."""
Read = Callable[[int], bytes]
"""Gives at most so many bytes, b"" at the end; called in the thread of the transfer. After a
cancellation it must return or raise soon (close what it reads from)."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or an index: its checked descriptor and its exact bytes."""

    descriptor: Descriptor
    content: bytes


class Repository:
    """A repository as one user sees it. Made by `Registries.repository`.

    What every method may raise: NotFound (also where Docker Hub says "denied" to a pull),
    Unauthorized, Forbidden, Upstream (a registry that cannot be reached, fails or lies),
    each with Docker's sentence. Network failures and 5xx, 429 are retried inside.
    """

    reference: Reference  # without tag and digest

    async def manifest(self, reference: str | Digest) -> Fetched:
        """Return the manifest or index that a tag or a digest stands for, checked.

        Its digest is right, its content is of the type it says, it has at most 4 MiB. Schema 1
        is refused.
        """
        raise Unsupported("registries are not served yet")

    async def head(self, reference: str | Digest) -> Descriptor | None:
        """Return what a tag or digest stands for, without its content; None if there is none."""
        raise Unsupported("registries are not served yet")

    async def has_blob(self, digest: Digest) -> int | None:
        """Return the size of a blob; None if the repository has none of this digest."""
        raise Unsupported("registries are not served yet")

    async def fetch_blob(self, descriptor: Descriptor, into: int, advance: Advance) -> None:
        """Write a blob to a file or pipe, never more than its size, and check size and digest.

        The bytes are written before the digest can be known: drop them if this raises. Broken
        connections are taken up again where they broke. Raises Upstream if the content is not
        what the descriptor says, OSError if `into` fails (BrokenPipeError: the reader is gone).
        """
        raise Unsupported("registries are not served yet")

    async def mount(self, digest: Digest, from_repository: str) -> bool:
        """Make a blob of another repository (its path) of this registry one of this repository.

        False if the registry did not: the blob has to be uploaded.
        """
        raise Unsupported("registries are not served yet")

    async def upload(self, read: Read, advance: Advance) -> tuple[Digest, int]:
        """Upload a blob whose digest is not known yet; return its SHA-256 digest and its size."""
        raise Unsupported("registries are not served yet")

    async def upload_known(self, descriptor: Descriptor, read: Read, advance: Advance) -> None:
        """Upload a blob of known digest and size; Upstream if `read` gives something else."""
        raise Unsupported("registries are not served yet")

    async def put_manifest(
        self, reference: str | Digest, media_type: str, content: bytes
    ) -> Digest:
        """Store a manifest or index under a tag or its digest; return its digest."""
        raise Unsupported("registries are not served yet")

    async def tags(self) -> list[str]:
        """Return all tags, in the registry's order."""
        raise Unsupported("registries are not served yet")
