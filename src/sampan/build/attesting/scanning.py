"""Lists of what is in an image (SBOM), made by a generator: an image that runs on its files.

Source: buildkit docs/attestations/sbom-protocol.md, frontend/attestations/sbom/sbom.go,
exporter/attestation/unbundle.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from sampan.build.attesting.statements import Attestation
from sampan.build.attesting.wishes import SbomWish
from sampan.build.built import Built
from sampan.build.files.layer import Item, write_layer
from sampan.build.files.places import locate
from sampan.build.files.tree import File, Spool, Tree, folder
from sampan.build.state import with_path
from sampan.build.worker import Clients, Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import BaseImage, RunStep
from sampan.spec.digest import chain_id
from sampan.spec.docker.config import ImageOptions, Mount, TmpfsOptions
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.platform import Platform
from sampan.storage.archives.compression import plain_chunks, reader_of
from sampan.storage.archives.tar_fields import REGULAR

_SPDX: Final = "https://spdx.dev/Document"
_SLSA: Final = "https://slsa.dev/provenance/"
_NAME: Final = "sbom"
_SOURCE: Final = f"/run/src/core/{_NAME}"
_EXTRAS: Final = "/run/src/extras"
_OUT: Final = "/run/out"
_LIMIT: Final = 40 << 20  # bytes of all statements
_MOST: Final = 64  # statements
Output = Callable[[int, bytes], None]


class _Statement(msgspec.Struct):
    predicate_type: str = msgspec.field(name="predicateType", default="")
    subject: list[dict[str, Any]] | None = None
    predicate: msgspec.Raw = msgspec.Raw(b"null")  # as it is: millions of objects otherwise


class _Written:
    """What a generator has written; its layer is nothing."""

    def __init__(self, spool: Spool) -> None:
        self.tree = Tree(spool)

    def read(self, fd: int) -> None:
        """Take the archive of what a generator has changed."""
        with self.tree.spool.lock:
            self.tree.read(plain_chunks(reader_of(fd)))

    def write(self, into: int) -> None:
        """Write an empty layer."""
        write_layer([], into)


class Scanner:
    """Runs one generator."""

    def __init__(self, worker: Worker, wish: SbomWish, clients: Clients) -> None:
        self._worker, self._wish, self._clients = worker, wish, clients

    async def scan(
        self, built: Built, say: Callable[[ProgressMessage], None], output: Output
    ) -> list[Attestation]:
        """Return what the generator says of a result; InvalidArgument if it fails."""
        generator = await self._worker.base(
            self._wish.generator, Platform.host(), pull=False, clients=self._clients, say=say
        )
        run = generator.config.run
        if not (command := [*(run.entrypoint or []), *(run.cmd or [])]):
            raise InvalidArgument(f"scanner {self._wish.generator} does not have cmd")
        spool = Spool(self._worker.scratch())
        try:
            written = _Written(spool)
            async with AsyncExitStack() as stack:
                step = await self._step(generator, command, built, stack)
                ran = await self._worker.run(step, lambda _: None, output, written)
            if ran.exit_code:
                raise InvalidArgument(
                    f"scanner {self._wish.generator} ended with code {ran.exit_code}"
                )
            return statements_in(written.tree)
        finally:
            spool.close()

    async def _step(
        self, generator: BaseImage, command: list[str], built: Built, stack: AsyncExitStack
    ) -> RunStep:
        run, config = generator.config.run, generator.config
        parameters = {f"BUILDKIT_SCAN_{key}": it for key, it in self._wish.parameters.items()}
        told = {"BUILDKIT_SCAN_DESTINATION": f"{_OUT}/", "BUILDKIT_SCAN_SOURCE": _SOURCE}
        places: dict[str, Sequence[str]] = {_SOURCE: built.state.config.diff_ids}
        if built.extras:
            told["BUILDKIT_SCAN_SOURCE_EXTRAS"] = _EXTRAS
            places |= {f"{_EXTRAS}/{_NAME}-{name}": it for name, it in built.extras.items()}
        env = [*with_path(run.env), *(f"{key}={it}" for key, it in (told | parameters).items())]
        return RunStep(
            chain=await self._prepared(config.diff_ids),
            architecture=config.architecture,
            os=config.os,
            variant=config.variant,
            command=command,
            env=env,
            user=run.user,
            working_dir=run.working_dir,
            mounts=[
                *[await self._files(place, it, stack) for place, it in places.items()],
                Mount(type="tmpfs", target="/tmp", tmpfs_options=TmpfsOptions()),  # noqa: S108
            ],
        )

    async def _files(self, place: str, diff_ids: Sequence[str], stack: AsyncExitStack) -> Mount:
        if not diff_ids:
            options = TmpfsOptions()
            return Mount(type="tmpfs", target=place, read_only=True, tmpfs_options=options)
        name = await stack.enter_async_context(self._worker.temporary_image(diff_ids))
        return Mount(type="image", source=name, target=place, image_options=ImageOptions())

    async def _prepared(self, diff_ids: Sequence[str]) -> str | None:
        """Return the layers of a generator with a folder that it can write to."""
        chain = chain_id(diff_ids)
        place = await locate(self._worker, chain, _OUT)
        if place.exists:
            return chain
        items = [Item(one, folder()) for one in [*place.missing_folders(), place.path]]
        made = await self._worker.layer(chain, lambda into: write_layer(items, into, 0))
        return chain_id([*diff_ids, made]) if made else chain


def statements_in(tree: Tree) -> list[Attestation]:
    """Return what a generator has written, the core one first. Raises InvalidArgument."""
    try:
        found = tree.find(_OUT.encode())
    except NotFound:
        return []
    if len(found.children) > _MOST:
        raise InvalidArgument(f"the scanner has written more than {_MOST} files")
    if sum(file.size for file in found.children.values()) > _LIMIT:
        raise InvalidArgument(f"the scanner has written more than {_LIMIT} bytes")
    names = sorted(found.children, key=lambda name: (name.split(b".")[0] != b"sbom", name))
    return [_statement(tree, name, found.children[name]) for name in names]


def _statement(tree: Tree, name: bytes, file: File) -> Attestation:
    shown = name.decode("utf-8", "replace")
    if file.kind != REGULAR:
        raise InvalidArgument(f"{shown} of the scanner is not a regular file")
    try:
        statement = msgspec.json.decode(tree.spool.read(file), type=_Statement)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{shown}: cannot decode in-toto statement: {error}") from error
    if statement.predicate_type.startswith(_SLSA):
        raise InvalidArgument("a scanner may not state provenance")
    if statement.predicate_type != _SPDX:
        raise InvalidArgument(
            f"bundle entry {statement.predicate_type} does not match required predicate type"
            f" {_SPDX}"
        )
    subjects = statement.subject or []
    return Attestation(_SPDX, statement.predicate, shown, subjects=subjects)
