"""Image references as Docker reads them: `alpine`, `localhost:5000/a/b:tag`, `name@sha256:…`.

Source: distribution/reference reference.go, normalize.go, regexp.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from sampan.errors import InvalidArgument
from sampan.spec.digest import Digest, parse_digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_NAME_LENGTH = 255
_TEXT_LENGTH = 4096  # of a whole reference: keeps the expressions below from long work

_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PATH_PART}(?:/{_PATH_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_TAG_ONLY = re.compile(_TAG)
_HEX64 = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised image reference: it always has a domain."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference that `text` means to Docker: `alpine` is docker.io/library/alpine.

        No tag is added: see `with_default_tag`. Raises InvalidArgument with Docker's sentence.
        """
        if _HEX64.fullmatch(text):
            raise InvalidArgument(
                f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )
        if len(text) > _TEXT_LENGTH:
            raise InvalidArgument("invalid reference format")
        domain, remainder = _split_domain(text)
        remote = remainder.partition(":")[0]
        if remote.lower() != remote:
            raise InvalidArgument(
                f"invalid reference format: repository name ({remote}) must be lowercase"
            )
        match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
        if match is None:
            raise InvalidArgument("invalid reference format")
        if len(match["path"]) > _NAME_LENGTH:
            raise InvalidArgument(
                f"repository name must not be more than {_NAME_LENGTH} characters"
            )
        digest = parse_digest(match["digest"]) if match["digest"] else None
        return cls(match["domain"], match["path"], match["tag"] or "", digest)

    @property
    def name(self) -> str:
        """The repository with its domain: docker.io/library/alpine."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: alpine."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        return rest if "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: alpine:3.20."""
        return self.familiar_name + self._suffix()

    @property
    def is_name_only(self) -> bool:
        """There is neither a tag nor a digest."""
        return not self.tag and self.digest is None

    def with_default_tag(self) -> Self:
        """Return the reference with the tag `latest`, if it has neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self

    def with_tag(self, tag: str) -> Self:
        """Return the reference with another tag; raise InvalidArgument if it is no tag."""
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidArgument("invalid tag format")
        return replace(self, tag=tag)

    def with_digest(self, digest: Digest) -> Self:
        """Return the reference with another digest."""
        return replace(self, digest=digest)

    def trimmed(self) -> Self:
        """Return the repository alone."""
        return replace(self, tag="", digest=None)

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def parse_any(text: str) -> Reference | Digest:
    """Return what an image is called by: a reference, or the digest that `text` is.

    Source: distribution/reference ParseAnyReference.
    """
    if _HEX64.fullmatch(text):
        return Digest(f"sha256:{text}")
    try:
        return parse_digest(text)
    except InvalidArgument:
        return Reference.parse(text)


def from_repo_and_tag(repo: str, tag: str) -> Reference | None:
    """Return the reference that the query parameters `repo` and `tag` make; None without `repo`.

    Source: moby httputils.RepoTagReference.
    """
    if not repo:
        return None
    reference = Reference.parse(repo)
    if reference.digest is not None:
        raise InvalidArgument("cannot import digest reference")
    return reference.with_tag(tag) if tag else reference.with_default_tag()


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + name
    if first == _LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, name
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
