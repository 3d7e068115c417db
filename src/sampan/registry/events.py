"""What happens to repositories."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Something that happened to a repository, for those who want to be told."""

    action: str  # push, pull, mount, delete
    repository: str
    digest: str = ""
    media_type: str = ""
    size: int = 0
    tag: str = ""
    source: str = ""  # the repository that a blob was mounted from
    content: bytes = b""  # of a manifest
