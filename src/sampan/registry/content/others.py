"""What content may be in the files that no row knows: others write there too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from sampan.spec.digest import Digest


class Others(Protocol):
    """Looks for what others have written. `True`: rows may be there now. See upkeep/beside.py."""

    def find_repository(self, repository: str) -> bool: ...

    def find_manifest(self, repository: str, reference: str) -> bool: ...

    def find_blob(self, repository: str, digest: Digest) -> bool: ...

    def publishing(self, paths: Sequence[str]) -> AbstractContextManager[None]:
        """Be within a change of ours that gives these files their names.

        If it fails they are nobody's, whatever is there.
        """


class NoOthers:
    """Nobody else writes."""

    def find_repository(self, repository: str) -> bool:
        return False

    def find_manifest(self, repository: str, reference: str) -> bool:
        return False

    def find_blob(self, repository: str, digest: Digest) -> bool:
        return False

    def publishing(self, paths: Sequence[str]) -> AbstractContextManager[None]:
        return nullcontext()
