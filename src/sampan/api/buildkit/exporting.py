"""What becomes of what was built: an image with names, in a registry, or files at the client.

Source: moby daemon/internal/builder-next/exporter (moby); buildkit exporter/local, exporter/tar,
exporter/oci, exporter/containerimage/exptypes (what is answered).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sampan.api.buildkit.clients import SessionClient
from sampan.api.buildkit.content import ClientStore
from sampan.api.buildkit.jobs import Job
from sampan.api.buildkit.progress import Vertex
from sampan.api.buildkit.sending import send_file, send_folder
from sampan.build.exporting.assembling import Assembly
from sampan.build.exporting.layout import archive, pieces
from sampan.build.exporting.options import Wishes, wishes_of
from sampan.build.exporting.outputs import Outputs, Result
from sampan.errors import InvalidArgument
from sampan.spec.image import timestamp
from sampan.spec.reference import Reference

EXPORTERS: Final = ("moby", "image", "oci", "docker", "local", "tar")
_STORE: Final = "export"  # buildkit client/solve.go: of the client's output folder


@dataclass(frozen=True, slots=True)
class HandingOut:
    """One output of a build, the `number`-th that the client wants."""

    outputs: Outputs
    job: Job
    number: int
    attributes: Mapping[str, str]

    async def run(self, kind: str, result: Result) -> dict[str, str]:
        """Hand a result out; return what the client is told of it."""
        if kind in ("local", "tar"):
            await self._files(kind, result)
            return {}
        wishes = wishes_of(kind, self.attributes)
        if kind in ("oci", "docker"):
            return await self._archive(kind, result, wishes)
        return await self._image(result, wishes)

    # --- images ----------------------------------------------------------------------------

    async def _image(self, result: Result, wishes: Wishes) -> dict[str, str]:
        with self.job.progress.during("exporting to image") as vertex:
            if not self.outputs.needs_manifest(result, wishes):
                return await self._plain(result, wishes, vertex)
            client = SessionClient(await self.job.client())
            assembly = await self.outputs.image(result, wishes, client, _teller(vertex))
        return _told(assembly, ",".join(wishes.names), {})

    async def _plain(self, result: Result, wishes: Wishes, vertex: Vertex) -> dict[str, str]:
        """Store an image of which nothing else is said."""

        def say(text: str) -> None:
            vertex.log(f"{text}\n".encode())

        image, _ = await self.outputs.builder.results.named(result.built[0], wishes.names, say)
        told = {"containerimage.digest": image, "containerimage.config.digest": image}
        if wishes.names:
            told["image.name"] = ",".join(wishes.names)
        return told

    async def _archive(self, kind: str, result: Result, wishes: Wishes) -> dict[str, str]:
        session = await self.job.client()
        with self.job.progress.during(f"exporting to {kind} image format") as vertex:
            names = [str(Reference.parse(name).with_default_tag()) for name in wishes.names]
            if kind == "docker" and self.outputs.is_index(result, wishes):
                raise InvalidArgument(
                    "docker exporter does not currently support exporting manifest lists"
                )
            tell = _teller(vertex)
            async with self.outputs.packed(result, wishes, tell) as (assembly, layers):
                created = {
                    "org.opencontainers.image.created": timestamp(result.now() // 10**9 * 10**9)
                }
                described = _described(assembly, created)
                if wishes.tar:
                    parts = archive(assembly, layers, names, described, docker=kind == "docker")
                    await send_file(session, self.number, parts)
                else:
                    store = ClientStore(session, _STORE)
                    for packed in layers.values():
                        await store.write(packed.descriptor, pieces(packed))
                    for descriptor, content in [*assembly.blobs.values(), *assembly.manifests]:
                        await store.write(descriptor, [content])
            tell("sending tarball" if wishes.tar else "sending blobs")
        return _told(assembly, ",".join(names), created)

    # --- files -----------------------------------------------------------------------------

    async def _files(self, kind: str, result: Result) -> None:
        session = await self.job.client()
        into = "directory" if kind == "local" else "tarball"
        with self.job.progress.during(f"exporting to client {into}"):
            tree = await self.outputs.files(result, self.attributes)
            try:
                if kind == "local":
                    await send_folder(session, self.number, tree)
                else:
                    epoch = result.built[0].epoch
                    async with self.outputs.builder.results.archive(tree, epoch) as parts:
                        await send_file(session, self.number, parts)
            finally:
                tree.spool.close()


class _teller:  # noqa: N801 - it is called like a function
    """Tells of things that are done, each by a line of a vertex."""

    def __init__(self, vertex: Vertex) -> None:
        self._vertex = vertex

    def __call__(self, text: str) -> None:
        self._vertex.transfer(text, 0, 0, done=True)


def _described(assembly: Assembly, annotations: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(assembly.root)
    known = {**annotations, **(fields.get("annotations") or {})}
    return {**fields, "annotations": known} if known else fields


def _told(assembly: Assembly, names: str, annotations: Mapping[str, str]) -> dict[str, str]:
    described = msgspec.json.encode(_described(assembly, annotations))
    told = {
        "containerimage.digest": assembly.root.digest,
        "containerimage.descriptor": base64.b64encode(described).decode(),
    }
    if assembly.config:
        told["containerimage.config.digest"] = assembly.config
    if names:
        told["image.name"] = names
    return told
