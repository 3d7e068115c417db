"""All containers in memory, found by name, id, or the beginning of an id."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sampan.engine.containers.container import Container
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.spec.names import NAME

_HEX = re.compile(r"[0-9a-f]+")


class Table:
    """The containers of the engine, by id and by name."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}  # name → id, also of containers being created

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def ids(self) -> set[str]:
        """Return the ids of all containers, also of those that are being made."""
        return {*self._by_id, *self._by_name.values()}

    def get(self, id: str) -> Container | None:
        """Return the container with exactly this id."""
        return self._by_id.get(id)

    def find(self, ref: str) -> Container:
        """Return the container that `ref` means: a full id, a name, or the beginning of an id.

        Raises NotFound "No such container: …", InvalidArgument for an ambiguous beginning.
        Source: moby daemon/container.go, GetContainer.
        """
        if not ref:
            raise InvalidArgument("No container name or ID supplied")
        if ref in self._by_id:
            return self._by_id[ref]
        named = self._by_name.get(ref.removeprefix("/"), "")
        if named in self._by_id:
            return self._by_id[named]
        if linked := self._linked(ref.removeprefix("/")):
            return linked
        if _HEX.fullmatch(ref):
            found = [each for each in self._by_id.values() if each.id.startswith(ref)]
            if len(found) == 1:
                return found[0]
            if found:
                raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        raise NotFound(f"No such container: {ref}")

    def _linked(self, name: str) -> Container | None:
        """Return the container that a link of another one calls `parent/alias`."""
        parent, _, alias = name.partition("/")
        if not alias or not (owner := self._by_id.get(self._by_name.get(parent, ""))):
            return None
        for link in owner.host_config.links or ():
            target, _, known = link.partition(":")
            if known == alias:
                return self._by_id.get(target)
        return None

    def reserve(self, name: str, id: str) -> None:
        """Take a name; Conflict in Docker's words if it belongs to somebody."""
        if not NAME.fullmatch(name):
            raise InvalidArgument(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        owner = self._by_name.setdefault(name, id)
        if owner != id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}".'
                " You have to remove (or rename) that container to be able to reuse that name."
            )

    def is_taken(self, name: str) -> bool:
        """Tell whether somebody has the name."""
        return name in self._by_name

    def release(self, name: str) -> None:
        """Give a name back."""
        self._by_name.pop(name, None)

    def add(self, container: Container) -> None:
        """Make a container known, under the name that was reserved for it."""
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id

    def discard(self, container: Container) -> None:
        """Forget a container and its name."""
        self._by_id.pop(container.id, None)
        if self._by_name.get(container.name) == container.id:
            del self._by_name[container.name]
