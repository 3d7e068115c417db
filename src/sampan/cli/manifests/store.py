"""Manifest lists that are being made: files below the user's settings, as docker lays them out.

One folder per list, one file per manifest of it. Source: docker/cli cli/manifest/store/store.go.
"""

from __future__ import annotations

import os
import shutil

from sampan.cli.manifests.entries import Entry, entry_of
from sampan.client import documents
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.spec.reference import Reference


class ManifestStore:
    """The lists of one user."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @classmethod
    def of(cls, cli: Invocation) -> ManifestStore:
        return cls(os.path.join(os.path.dirname(cli.settings_path()), "manifests"))

    def get(self, target: Reference, manifest: Reference) -> Entry | None:
        """Return a manifest of a list; None if its bytes were not kept. Raises NotFound."""
        return self._read(self._path(target, manifest), str(manifest))

    def entries(self, target: Reference) -> list[Entry]:
        """Return all manifests of a list. Raises NotFound if there is no such list."""
        folder = self._path(target)
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            raise NotFound(f"No such manifest: {target}") from None
        found = [self._read(os.path.join(folder, name), str(target)) for name in names]
        return [entry for entry in found if entry]

    def save(self, target: Reference, manifest: Reference, entry: Entry) -> None:
        """Add a manifest to a list, or change it."""
        path = self._path(target, manifest)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        temporary = f"{path}.{os.getpid()}.new"
        with open(temporary, "wb") as file:
            file.write(documents.encode(entry.document()))
        os.rename(temporary, path)

    def remove(self, target: Reference) -> None:
        """Forget a list. Raises NotFound."""
        folder = self._path(target)
        if not os.path.isdir(folder):
            raise NotFound(f"No such manifest: {target}")
        shutil.rmtree(folder)

    def _path(self, *references: Reference) -> str:
        names = [str(item).replace(":", "-").replace("/", "_") for item in references]
        return os.path.join(self._folder, *names)

    @staticmethod
    def _read(path: str, name: str) -> Entry | None:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            raise NotFound(f"No such manifest: {name}") from None
        try:
            return entry_of(documents.decode(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArgument(f"invalid manifest file {path}: {error}") from None
