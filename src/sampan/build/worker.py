"""What builds need of the world: images, layers, containers, threads.

The engine has it all (`engine/building`); the daemon fits the two together. In tests it is a
dictionary.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from sampan.build.files.tree import Tree
from sampan.build.policing import Policy
from sampan.build.state import State
from sampan.distribution.credentials import Credentials
from sampan.errors import NotFound
from sampan.spec.build import BaseImage, FoundDevice, MountedCache, Ran, Repository, RunStep
from sampan.spec.docker.config import Mount
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.mounter import PathStat

T = TypeVar("T")
Say = Callable[[ProgressMessage], None]
Output = Callable[[int, bytes], None]  # 1 or 2, and what came from there


class Clients(Protocol):
    """What the client of a build has that the build may use."""

    @property
    def policy(self) -> Policy | None:
        """Who is asked before something is fetched; the client's own files are its matter."""

    async def credentials(self, reference: Reference) -> Credentials | None:
        """Return what the client shows to the registry of an image."""

    async def secret(self, id: str) -> bytes | None:
        """Return a secret, None if the client has none of this id."""

    async def check_agent(self, id: str) -> None:
        """Raise NotFound, with the reason, unless the client has an SSH agent of this id."""

    async def forward(self, id: str, descriptor: int) -> None:
        """Connect a socket with the client's SSH agent until either side ends."""

    async def folder(self, name: str, tree: Tree) -> None:
        """Put what the client's folder has, but what its `.dockerignore` means, into a tree."""

    def archive(self, name: str) -> AsyncIterable[bytes]:
        """Yield a folder that the client sends as an archive."""

    def layout(self, store: str, digest: str, platform: Platform | None) -> AsyncIterable[bytes]:
        """Yield an image of an OCI layout that the client has, as an archive."""

    def result(self, name: str) -> State:
        """Return what another build of the client has made."""


class Nobody:
    """A client that has nothing."""

    policy: Policy | None = None

    async def credentials(self, reference: Reference) -> Credentials | None:
        """Return None."""
        return None

    async def secret(self, id: str) -> bytes | None:
        """Return None."""
        return None

    async def check_agent(self, id: str) -> None:
        """Raise NotFound."""
        raise NotFound(f'no SSH key "{id}" forwarded from the client')

    async def forward(self, id: str, descriptor: int) -> None:
        """Raise NotFound."""
        await self.check_agent(id)

    async def folder(self, name: str, tree: Tree) -> None:
        """Raise NotFound."""
        raise NotFound(f'no access allowed to dir "{name}"')

    def archive(self, name: str) -> AsyncIterable[bytes]:
        """Raise NotFound."""
        raise NotFound(f"no archive {name}")

    def layout(self, store: str, digest: str, platform: Platform | None) -> AsyncIterable[bytes]:
        """Raise NotFound."""
        raise NotFound(f"no content store {store}")

    def result(self, name: str) -> State:
        """Raise NotFound."""
        raise NotFound(f"no such result: {name}")


class Change(Protocol):
    """Something that changes an archive; both are called in threads, one after the other."""

    def read(self, fd: int) -> None:
        """Take it from a pipe."""

    def write(self, into: int) -> None:
        """Write it to a pipe."""


class MountedCaches(Protocol):
    """The folders that the commands of builds share, by the names of their records."""

    async def found(self, names: Sequence[str]) -> dict[str, MountedCache]:
        """Return those that are there."""

    def has(self, name: str) -> bool:
        """Tell whether one is there."""

    async def fill(self, mount: Mount, write: Callable[[int], None]) -> None:
        """Make one, with what is in an archive below the name of the mount's target."""

    async def remove(self, name: str) -> bool:
        """Remove one; False if a container has it."""


class Worker(Protocol):
    """Does the work of builds. A chain id names layers on each other, None no layer."""

    # --- images and layers -----------------------------------------------------------------

    def intake(self) -> AbstractAsyncContextManager[None]:
        """Keep everything that comes in until a build has ended."""

    async def base(
        self, name: str, platform: Platform | None, *, pull: bool, clients: Clients, say: Say
    ) -> BaseImage:
        """Return an image, fetched from its registry if it is not here or with `pull`."""

    async def load(self, archive: AsyncIterable[bytes]) -> BaseImage:
        """Return the one image of an archive; its last layer is kept until it is released."""

    async def image(self, name: str) -> BaseImage:
        """Return an image that is here; NotFound, InvalidArgument."""

    def has_layer(self, chain: str) -> bool:
        """Tell whether a layer is there."""

    def layer_size(self, chain: str) -> int:
        """Return the bytes of the files of a layer."""

    def layers_of_images(self) -> Collection[str]:
        """Return the layers that images have."""

    def space(self) -> tuple[int, int]:
        """Return the bytes of the disk that layers are on: those free, and all."""

    def keep_layers(self, chains: Iterable[str]) -> None:
        """Keep layers for the cache, until they are released."""

    def release_layers(self, chains: Iterable[str]) -> None:
        """Keep layers for the cache no longer."""

    async def collect(self) -> None:
        """Remove the layers that nothing needs any more."""

    async def layer(self, parent: str | None, write: Callable[[int], None]) -> str:
        """Make a layer of the archive that `write` writes to a pipe; return its diff id.

        "" if it changes nothing.
        """

    async def bring(self, parent: str | None, diff_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Put a layer, whose archive (any compression) comes, on its parent.

        Raises InvalidArgument if it is another one.
        """

    async def config(self, image: str) -> bytes:
        """Return the configuration of an image that is here."""

    async def add_image(self, config: bytes, *, awaits_name: bool) -> str:
        """Store an image whose layers are there; return its id.

        One that awaits a name does not outlast a daemon that is killed before it has one.
        """

    async def tag(self, image: str, name: str) -> str:
        """Give an image a name; return it as users write it."""

    # --- files of a state ------------------------------------------------------------------

    async def stat(self, chain: str | None, path: str) -> PathStat | None:
        """Return what a path is, None if nothing; a link is the link itself."""

    async def pack(self, chain: str | None, path: str, read: Callable[[int], T]) -> T:
        """Return what `read` makes, in a thread, of the archive of a path that its pipe gives."""

    async def unpacked(self, diff_id: str, read: Callable[[int], T]) -> T:
        """Return what `read` makes, in a thread, of the archive of a layer."""

    async def download(self, url: str, read: Callable[[int], T]) -> T:
        """Return what `read` makes, in a thread, of the body of a web page."""

    async def repository(self, repository: Repository, read: Callable[[int], T]) -> T:
        """Return what `read` makes, in a thread, of the archive of a commit."""

    # --- containers ------------------------------------------------------------------------

    @property
    def mounted_caches(self) -> MountedCaches:
        """The folders that commands share."""

    async def devices(self, name: str) -> Sequence[FoundDevice]:
        """Return the devices of a name, a class or a kind; none if there is no such."""

    async def run(
        self,
        step: RunStep,
        started: Callable[[str], None],
        output: Output,
        change: Change | None = None,
    ) -> Ran:
        """Run a step; tell the id of its container when there is one, then what it writes.

        `change` gets the archive of what the step has changed, and gives that of the layer.
        """

    def temporary_image(self, diff_ids: Sequence[str]) -> AbstractAsyncContextManager[str]:
        """Have an image of layers that are there; give its id."""

    async def undivided(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what something gives; it goes on to its end if the build is cancelled."""

    # --- threads ---------------------------------------------------------------------------

    async def call(self, func: Callable[[], T]) -> T:
        """Return what a function returns that is called in a thread."""

    async def feed(self, chunks: AsyncIterable[bytes], read: Callable[[int], T]) -> T:
        """Return what `read` makes, in a thread, of chunks that its pipe gives."""

    def written(
        self, write: Callable[[int], None]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give what `write` writes to a pipe, in a thread."""

    def scratch(self) -> int:
        """Return a file without a name."""
