"""botocore's session, with less in memory: half of what it knows of a service is documentation."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from botocore.session import Session

WAYS: dict[str, Callable[[Path], bytes]] = {
    ".json": Path.read_bytes,
    ".json.gz": lambda path: gzip.decompress(path.read_bytes()),
}


def session() -> Session:
    """Return a new session. Its clients have no help texts."""
    opened: Any = Session
    made = opened()
    made.get_component("data_loader").file_loader = LeanFiles()
    found: Session = made
    return found


class LeanFiles:
    """Reads descriptions of services, as dicts instead of OrderedDicts: a `JSONFileLoader`."""

    def exists(self, file_path: str) -> bool:
        """Tell whether there is a file, whose name has no ending here."""
        return any(Path(f"{file_path}{ending}").is_file() for ending in WAYS)

    def load_file(self, file_path: str) -> Any:
        """Return what is in a file; None if there is none."""
        for ending, read in WAYS.items():
            path = Path(f"{file_path}{ending}")
            if path.is_file():
                return _without_help(msgspec.json.decode(read(path)))
        return None


def _without_help(found: Any) -> Any:
    if isinstance(found, dict):
        # Some are asked for it.
        return {
            name: "" if name == "documentation" and isinstance(value, str) else _without_help(value)
            for name, value in found.items()
        }
    return [_without_help(item) for item in found] if isinstance(found, list) else found
