"""What becomes of what was built: an image with names, a folder or an archive at the client.

Source: moby daemon/internal/builder-next/exporter (moby); buildkit exporter/local, exporter/tar,
exporter/containerimage/exptypes (what is answered).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sampan.api.buildkit.jobs import Job
from sampan.api.buildkit.sending import send_file, send_folder
from sampan.build.builder import Builder, Built

EXPORTERS: Final = ("moby", "image", "local", "tar")


@dataclass(frozen=True, slots=True)
class HandingOut:
    """One output of a build, the `number`-th that the client wants."""

    builder: Builder
    job: Job
    number: int
    attributes: Mapping[str, str]

    async def run(self, kind: str, built: Built) -> dict[str, str]:
        """Hand a result out; return what the client is told of it."""
        if kind in ("local", "tar"):
            await self._files(kind, built)
            return {}
        return await self._image(built)

    async def _image(self, built: Built) -> dict[str, str]:
        names = [name for name in self.attributes.get("name", "").split(",") if name]
        with self.job.progress.during("exporting to image") as vertex:
            image = await self.builder.store(built)
            vertex.log(f"writing image {image}\n".encode())
            for name in names:
                shown = await self.builder.tag(image, name)
                vertex.log(f"naming to {shown}\n".encode())
        told = {"containerimage.digest": image, "containerimage.config.digest": image}
        if names:
            told["image.name"] = ",".join(names)
        return told

    async def _files(self, kind: str, built: Built) -> None:
        session = await self.job.client()
        into = "directory" if kind == "local" else "tarball"
        with self.job.progress.during(f"exporting to client {into}"):
            tree = await self.builder.files(built)
            try:
                if kind == "local":
                    await send_folder(session, self.number, tree)
                else:
                    async with self.builder.archive(tree, built.epoch) as pieces:
                        await send_file(session, self.number, pieces)
            finally:
                tree.spool.close()
