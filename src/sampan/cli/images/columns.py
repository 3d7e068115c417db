"""The columns of image lists (`images`, `system df -v`): one row per tag.

Source: docker/cli cli/command/formatter/image.go.
"""

from __future__ import annotations

import time

from sampan.cli.containers.columns import short_id
from sampan.cli.display.units import human_duration, human_size, local_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Summary = dict[str, Any]

NONE = "<none>"
NO_TIME = -62135596800  # Go's time without a value, in seconds since 1970
HEADINGS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}


def is_dangling(image: Summary) -> bool:
    tags, digests = image.get("RepoTags") or [], image.get("RepoDigests") or []
    return (not tags and not digests) or (
        tags == ["<none>:<none>"] and digests == ["<none>@<none>"]
    )


def rows(images: Iterable[Summary], digests: bool, alone: bool | None = None) -> Iterator[Summary]:
    """Yield each image once per tag (and digest), with `repository`, `tag` and `digest`.

    `alone`: digests of repositories without a tag have a row each; as `digests` if not given.
    """
    for image in images:
        each = digests if alone is None else alone
        names = [*_names(image, digests, each)] if not is_dangling(image) else []
        for repository, tag, digest in names or [(NONE, NONE, NONE)]:
            yield {**image, "repository": repository, "tag": tag, "digest": digest}


def _names(image: Summary, digests: bool, alone: bool) -> Iterator[tuple[str, str, str]]:
    tags: dict[str, list[str]] = {}
    for name in image.get("RepoTags") or []:
        repository, _, tag = name.rpartition(":")
        tags.setdefault(_familiar(repository), []).append(tag)
    known: dict[str, list[str]] = {}
    for name in image.get("RepoDigests") or []:
        repository, _, digest = name.partition("@")
        known.setdefault(_familiar(repository), []).append(digest)
    for repository, found in tags.items():
        if not digests:
            yield from ((repository, tag, NONE) for tag in found)
            continue
        for tag in found:
            for digest in known.get(repository) or [NONE]:
                yield repository, tag, digest
    for repository, values in known.items():
        if repository not in tags:
            yield from ((repository, NONE, digest) for digest in (values if alone else [""]))


def _familiar(repository: str) -> str:
    return repository.removeprefix("docker.io/library/").removeprefix("docker.io/")


def _unique(item: Summary) -> str:
    total, shared = item.get("Size", 0), item.get("SharedSize", -1)
    return "N/A" if shared < 0 else human_size(total - shared, 3)


def _count(item: Summary) -> str:
    count = item.get("Containers", -1)
    return "N/A" if count < 0 else str(count)


def _shared(item: Summary) -> str:
    shared = item.get("SharedSize", -1)
    return "N/A" if shared < 0 else human_size(shared, 3)


def columns(truncated: bool) -> dict[str, Callable[[Summary], Any]]:
    """Return the columns; `truncated` shortens ids."""
    return {
        "ID": lambda item: short_id(item["Id"]) if truncated else item["Id"],
        "Repository": lambda item: item["repository"],
        "Tag": lambda item: item["tag"],
        "Digest": lambda item: item["digest"],
        "CreatedSince": lambda item: (
            human_duration(time.time() - item["Created"]) + " ago"
            if item["Created"] != NO_TIME
            else ""
        ),
        "CreatedAt": lambda item: local_time(item["Created"]),
        "Size": lambda item: human_size(item["Size"], 3),
        "VirtualSize": lambda item: human_size(item["Size"]),
        "SharedSize": _shared,
        "UniqueSize": _unique,
        "Containers": _count,
    }
