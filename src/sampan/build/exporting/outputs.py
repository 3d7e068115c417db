"""What is made of results of builds: images with manifests, and files.

Source: buildkit exporter/containerimage/export.go, exporter/local/fs.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from sampan.build.attesting.statements import Attestation, encode, package_url, subject
from sampan.build.builder import Builder
from sampan.build.built import Built
from sampan.build.exporting.assembling import Assembly, Product, Stater, assemble
from sampan.build.exporting.options import Wishes, boolean
from sampan.build.exporting.outlet import Destination, Outlet, Packed
from sampan.build.files.tree import Spool, Tree, walk
from sampan.build.worker import Clients
from sampan.errors import InvalidArgument
from sampan.spec.digest import chain_ids, parse_digest
from sampan.spec.exports import Compression, LayerPlace
from sampan.spec.image import Descriptor
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.archives.tar_fields import REGULAR

Tell = Callable[[str], None]
_PACKING: Final = 2  # layers that are compressed at once


@dataclass(frozen=True, slots=True)
class Result:
    """What a build has made, for each platform; one of none is nothing."""

    built: Sequence[Built]
    is_index: bool = False  # whatever the number of platforms
    attestations: Sequence[Sequence[Attestation]] = ()  # of each

    @property
    def makes_index(self) -> bool:
        """There is more than one manifest, whatever an output wants."""
        count = len(self.built)
        return self.is_index or count > 1 or any(self.asked(number) for number in range(count))

    def asked(self, number: int) -> list[Attestation]:
        """Return what the client has asked to be said of a platform."""
        known = self.attestations[number] if self.attestations else ()
        return [one for one in known if not one.inline_only]

    def attached(self, number: int, wishes: Wishes) -> Sequence[Attestation]:
        """Return what an image says of a platform: where there is an index anyway, everything."""
        if not self.attestations or not wishes.oci:
            return ()
        return self.attestations[number] if wishes.inline or self.makes_index else ()

    def now(self) -> int:
        """Return the time of what is made of it, in nanoseconds."""
        epoch = self.built[0].epoch
        return time.time_ns() if epoch is None else epoch * 10**9


@dataclass(slots=True)
class Outputs:
    """The outputs of one build."""

    builder: Builder
    outlet: Outlet

    def is_index(self, result: Result, wishes: Wishes) -> bool:
        """Tell whether an index is made, and not a manifest alone."""
        numbers = range(len(result.built))
        if not wishes.oci and any(result.asked(number) for number in numbers):
            raise InvalidArgument('cannot export attestations with "oci-mediatypes=false"')
        return result.makes_index or any(result.attached(number, wishes) for number in numbers)

    def needs_manifest(self, result: Result, wishes: Wishes) -> bool:
        """Tell whether more is to be said of an image than its configuration.

        Layers are compressed for it, to know their digests; so nobody does who need not.
        """
        return self.is_index(result, wishes) or wishes.push or not wishes.plain

    async def _product(
        self, built: Built, attestations: Sequence[Attestation], wishes: Wishes
    ) -> Product:
        state = built.state
        diff_ids = state.config.diff_ids
        if not state.config.history and not state.image:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        layers = [
            LayerPlace(diff_id=diff_id, chain=chain)
            for diff_id, chain in zip(diff_ids, chain_ids(diff_ids), strict=True)
        ]
        stater = _stater(attestations, wishes.names)
        return Product(built.platform, await self.builder.results.config(built), layers, stater)

    async def _products(self, result: Result, wishes: Wishes) -> list[Product]:
        return [
            await self._product(built, result.attached(number, wishes), wishes)
            for number, built in enumerate(result.built)
        ]

    # --- images ----------------------------------------------------------------------------

    async def image(self, result: Result, wishes: Wishes, clients: Clients, tell: Tell) -> Assembly:
        """Store an image with its manifests under its names, and push it if that is wanted."""
        products, index = await self._products(result, wishes), self.is_index(result, wishes)
        names = [Reference.parse(name).with_default_tag() for name in wishes.names]
        if wishes.push and not names:
            raise InvalidArgument("tag is needed when pushing to registry")
        places = [
            self.outlet.destination(name, await clients.credentials(name))
            for name in (names if wishes.push else ())
        ]

        async def make(layer: LayerPlace) -> Descriptor:
            if places:
                form = await places[0].layer(layer, wishes.compression)
                tell(f"pushing layer {form.digest}")
                return form
            return await self.outlet.measured(layer, wishes.compression)

        assembly = await assemble(products, wishes, make, index=index)
        for descriptor, _ in assembly.manifests:
            tell(f"exporting manifest {descriptor.digest}")
        if wishes.store:
            await self._record(products, assembly, names, wishes)
            for name in names:
                tell(f"naming to {name}")
        for number, (place, name) in enumerate(zip(places, names, strict=False)):
            if number:
                await _bring(assembly, place, wishes)
            tag = "" if wishes.by_digest else name.tag
            await _put(assembly, place, tag)
            tell(f"pushing manifest for {name}@{assembly.root.digest}")
        return assembly

    async def _record(
        self,
        products: Sequence[Product],
        assembly: Assembly,
        names: Sequence[Reference],
        wishes: Wishes,
    ) -> None:
        known = [str(name) for name in names if not wishes.by_digest]
        digest = parse_digest(assembly.root.digest)
        if wishes.push or wishes.canonical:
            known += [str(name.trimmed().with_digest(digest)) for name in names]
        others = [content for _, content in assembly.blobs.values()]
        documents = [*others, *(content for _, content in assembly.manifests)]
        configs = list(dict.fromkeys(product.config for product in products))
        await self.outlet.record(configs, documents, list(dict.fromkeys(known)))

    @asynccontextmanager
    async def packed(
        self, result: Result, wishes: Wishes, tell: Tell
    ) -> AsyncIterator[tuple[Assembly, Mapping[str, Packed]]]:
        """Have an image with all its layers in files."""
        products, index = await self._products(result, wishes), self.is_index(result, wishes)
        wanted = {layer.diff_id: layer for product in products for layer in product.layers}
        async with AsyncExitStack() as stack:
            made = await self._pack(stack, wanted.values(), wishes.compression)

            async def make(layer: LayerPlace) -> Descriptor:
                return made[layer.diff_id].descriptor

            assembly = await assemble(products, wishes, make, index=index)
            tell("exporting layers")
            for descriptor, _ in assembly.manifests:
                tell(f"exporting manifest {descriptor.digest}")
            yield assembly, {one.descriptor.digest: one for one in made.values()}

    async def _pack(
        self, stack: AsyncExitStack, layers: Iterable[LayerPlace], form: Compression
    ) -> dict[str, Packed]:
        """Have layers in files, a few at once, until the stack ends."""
        made: dict[str, Packed] = {}
        slots = asyncio.Semaphore(_PACKING)

        async def one(layer: LayerPlace) -> None:
            async with slots:
                made[layer.diff_id] = await stack.enter_async_context(
                    self.outlet.packed(layer, form)
                )

        try:
            async with asyncio.TaskGroup() as group:
                for layer in layers:
                    group.create_task(one(layer))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return made

    # --- files -----------------------------------------------------------------------------

    async def files(self, result: Result, attributes: Mapping[str, str]) -> Tree:
        """Return the files of a result, those of several platforms in folders of their own.

        What was asked to be said of them is beside them.
        """
        split = boolean(attributes, "platform-split", default=result.is_index)
        whole = Tree(Spool(self.builder.scratch()))
        try:
            for number, built in enumerate(result.built):
                tree = await self.builder.results.files(built, whole.spool)
                marked = "" if split or not result.is_index else _flat(built.platform)
                prefix = attributes.get("attestation-prefix", "")
                for one in result.asked(number):
                    _state(tree, one, prefix, marked)
                if split:
                    whole.graft(_flat(built.platform).encode(), tree.root)
                else:
                    _lay(whole, tree)
        except BaseException:
            whole.spool.close()
            raise
        return whole


def _flat(platform: Platform) -> str:
    return str(platform).replace("/", "_")


def _state(tree: Tree, attestation: Attestation, prefix: str, marked: str) -> None:
    """Put what is said of all files of a tree beside them."""
    stem, dot, ending = f"{prefix}{attestation.filename}".rpartition(".")
    name = f"{stem}.{marked}{dot}{ending}" if marked else f"{stem}{dot}{ending}"
    if name.encode() in tree.root.children:
        raise InvalidArgument(f"attestation file {name} is in the result already")
    subjects = [
        subject(path.decode("utf-8", "replace"), f"sha256:{tree.spool.digest(file).hex()}")
        for path, file in walk(tree.root)
        if file.kind == REGULAR
    ]
    statement = msgspec.json.format(encode(attestation.statement(subjects)), indent=2)
    with tree.spool.lock:
        tree.write(name.encode(), statement)


def _stater(attestations: Sequence[Attestation], names: Sequence[str]) -> Stater | None:
    """Return what makes statements about a manifest that has names."""
    if not attestations:
        return None

    async def state(platform: Platform, manifest: Descriptor) -> Sequence[tuple[str, bytes]]:
        subjects = [
            subject(package_url(Reference.parse(name), platform), manifest.digest) for name in names
        ]
        return [(one.kind, encode(one.statement(subjects))) for one in attestations]

    return state


def _lay(whole: Tree, tree: Tree) -> None:
    """Put files beside those of other platforms; the same name twice is an error."""
    for name, file in tree.root.children.items():
        if name in whole.root.children:
            raise InvalidArgument(
                f"cannot overwrite {name.decode(errors='replace')} from another platform:"
                " use platform-split"
            )
        whole.root.children[name] = file


async def _bring(assembly: Assembly, place: Destination, wishes: Wishes) -> None:
    """Have the layers of a finished image in a further repository, as they are."""
    for digest, layer in assembly.layers.items():
        await place.layer(layer, wishes.compression, assembly.forms[digest])


async def _put(assembly: Assembly, place: Destination, tag: str) -> None:
    """Have everything but the layers in a repository."""
    for descriptor, content in assembly.blobs.values():
        await place.blob(descriptor, content)
    *others, (root, content) = assembly.manifests
    for descriptor, other in others:
        await place.manifest(descriptor, other)
    await place.manifest(root, content, tag)
