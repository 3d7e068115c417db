"""Which references there are, what they stand for, and which images they keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sampan.engine.images.model import Name
from sampan.spec.digest import Digest
from sampan.spec.reference import Reference


class Names:
    """References in memory. One whose target is an index names several images at once."""

    def __init__(self) -> None:
        self._names: dict[Reference, Name] = {}
        self._mains: dict[Reference, str] = {}
        self._images: dict[Reference, frozenset[str]] = {}
        self._references: defaultdict[str, set[Reference]] = defaultdict(set)  # by image
        self._targets: defaultdict[Digest, set[Reference]] = defaultdict(set)
        self._sorted: dict[str, list[Reference]] = {}

    def set(self, reference: Reference, name: Name, images: Iterable[str], main: str) -> None:
        """Let a reference stand for something, and keep `images` beside the one it names.

        `main` is the image that it means on this machine.
        """
        self.remove(reference)
        self._names[reference] = name
        self._mains[reference] = main
        self._images[reference] = frozenset({name.image, *images})
        for image in self._images[reference]:
            self._references[image].add(reference)
            self._sorted.pop(image, None)
        if name.target:
            self._targets[name.target].add(reference)

    def remove(self, reference: Reference) -> Name | None:
        """Take a reference away; return what it stood for."""
        name = self._names.pop(reference, None)
        if name is None:
            return None
        del self._mains[reference]
        for image in self._images.pop(reference):
            self._sorted.pop(image, None)
            references = self._references[image]
            references.discard(reference)
            if not references:
                del self._references[image]
        if name.target:
            self._targets[name.target].discard(reference)
            if not self._targets[name.target]:
                del self._targets[name.target]
        return name

    def get(self, reference: Reference) -> Name | None:
        """Return what exactly this reference stands for."""
        return self._names.get(reference)

    def main(self, reference: Reference) -> str | None:
        """Return the image that a reference means on this machine."""
        return self._mains.get(reference)

    def images(self, reference: Reference) -> frozenset[str]:
        """Return the images that a reference keeps."""
        return self._images.get(reference, frozenset())

    def of_image(self, id: str) -> list[Reference]:
        """Return the references that name or keep an image, sorted."""
        found = self._sorted.get(id)
        if found is None:
            found = self._sorted[id] = sorted(self._references.get(id, ()), key=str)
        return list(found)

    def of_target(self, target: Digest) -> list[Reference]:
        """Return the references that stand for a target."""
        return sorted(self._targets.get(target, ()), key=str)

    def of_repository(self, repository: Reference) -> list[Reference]:
        """Return all tagged references of a repository, sorted."""
        found = (known for known in self._names if known.name == repository.name and known.tag)
        return sorted(found, key=str)

    def targets(self) -> list[Digest]:
        """Return everything that a reference stands for."""
        return list(self._targets)

    def all(self) -> list[tuple[Reference, Name]]:
        """Return everything."""
        return list(self._names.items())
