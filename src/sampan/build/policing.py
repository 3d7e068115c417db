"""Sources that a client wants to be asked about before a build uses them.

Source: buildkit solver/llbsolver/policy.go, client/llb/source.go (how sources are called).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from sampan.errors import Unsupported
from sampan.spec.build import Repository
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any

IMAGE: Final = "docker-image://"


@dataclass(frozen=True, slots=True)
class Source:
    """What a build would fetch, as BuildKit names it."""

    identifier: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image is, for those who decide by more than its name."""

    digest: str
    config: bytes


Ask = Callable[[], Awaitable[Facts]]


class Policy(Protocol):
    """Decides about sources."""

    async def judge(
        self, source: Source, platform: Platform | None = None, ask: Ask | None = None
    ) -> Source:
        """Return what may be used for a source: itself, or what comes in its place.

        `ask` gives what else is known of it. Raises Forbidden for what may not be used,
        Unsupported if the policy wants to know what nobody can tell.
        """


async def check(policy: Policy | None, source: Source) -> None:
    """Raise Forbidden if a policy is against a source that can only be itself."""
    if policy is None:
        return
    allowed = await policy.judge(source)
    if allowed != source:
        raise irreplaceable(source, allowed)


def image(name: str) -> Source:
    """Return what the image of a name is called."""
    meant = parse_any(name)
    if isinstance(meant, Reference):
        return Source(f"{IMAGE}{meant.with_default_tag()}")
    return Source(f"{IMAGE}{name}")  # the id of an image that is here


def commit(repository: Repository) -> Source:
    """Return what a place in a repository is called; the scheme of its address is no part of it."""
    url, path = repository.url, repository.url
    if "://" in url:
        parts = urlsplit(url)
        path = parts.netloc.rpartition("@")[2] + parts.path
    else:  # user@host:path
        host, _, folder = url.rpartition("@")[2].partition(":")
        path = f"{host}/{folder.lstrip('/')}"
    place = f"{repository.ref}:{repository.folder}" if repository.folder else repository.ref
    attributes = {"git.fullurl": url}
    if repository.checksum:
        attributes["git.checksum"] = repository.checksum
    if repository.keep_git:
        attributes["git.keepgitdir"] = "true"
    return Source(f"git://{path}{'#' if place else ''}{place}", attributes)


def irreplaceable(source: Source, allowed: Source) -> Unsupported:
    """Return what is told of a policy that puts something else in the place of a source."""
    return Unsupported(
        f"the policy puts {allowed.identifier!r} in the place of {source.identifier!r}:"
        " only images can be replaced by images"
    )
