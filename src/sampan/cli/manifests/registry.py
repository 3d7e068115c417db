"""Manifests in registries, asked and stored through the daemon."""

from __future__ import annotations

from sampan.cli.logins.registry_auth import authorization
from sampan.cli.manifests.entries import LISTS, MANIFESTS, Entry, digest_of, parsed
from sampan.errors import InvalidArgument, NotFound, Unauthorized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation
    from sampan.spec.reference import Reference


class ManifestRegistry:
    """The registries that references name; the user's logins are sent along."""

    def __init__(self, cli: Invocation) -> None:
        self._cli = cli
        self._distribution = cli.client.distribution

    def fetch(self, reference: Reference) -> tuple[str, bytes]:
        """Return media type and bytes of what a reference stands for.

        Raises NotFound, in docker's words, if it stands for nothing.
        """
        try:
            kind, content = self._distribution.manifest(str(reference), self._login(reference))
        except (NotFound, Unauthorized):
            raise NotFound(f"no such manifest: {reference}") from None
        if reference.digest and digest_of(content) != str(reference.digest):
            raise InvalidArgument(f"manifest verification failed for digest {reference.digest}")
        return _kind(kind, content), content

    def image(self, reference: Reference) -> Entry:
        """Return the manifest of one image. Raises InvalidArgument if it is a list."""
        kind, content = self.fetch(reference)
        if kind in LISTS:
            raise InvalidArgument(f"{reference} is a manifest list")
        return self.entry(reference, kind, content)

    def entry(self, reference: Reference, kind: str, content: bytes) -> Entry:
        """Return a manifest with the platform that its configuration names."""
        if kind not in MANIFESTS:
            raise InvalidArgument(f"{reference} is not a manifest")
        answer = self._distribution.inspect(str(reference), self._login(reference))
        platforms = answer.get("Platforms") or [{}]
        return Entry(str(reference), kind, content, platforms[0])

    def listed(self, reference: Reference, content: bytes) -> list[Entry]:
        """Return the manifests of a list, with the platforms that the list names."""
        return [
            self._listed_one(reference, descriptor)
            for descriptor in parsed(content).get("manifests") or []
        ]

    def _listed_one(self, reference: Reference, descriptor: Any) -> Entry:
        from sampan.spec.digest import parse_digest

        try:
            named = reference.with_digest(parse_digest(str(descriptor["digest"])))
            platform = dict(descriptor.get("platform") or {})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InvalidArgument(f"{reference} names what is no manifest") from None
        kind, content = self.fetch(named)
        if kind not in MANIFESTS:
            raise InvalidArgument(f"unsupported manifest type: {kind}")
        return Entry(str(named), kind, content, platform)

    def mount(self, target: Reference, digest: str, source: Reference) -> None:
        """Make a blob of `source` one of `target`."""
        name, login = target.trimmed().name, self._login(target)
        self._distribution.mount_blob(name, digest, source.trimmed().name, login)

    def put(self, target: Reference, kind: str, content: bytes, tag: str = "") -> str:
        """Store a manifest or list and return its digest."""
        login = self._login(target)
        self._distribution.put_manifest(target.trimmed().name, kind, content, tag, login)
        return digest_of(content)

    def _login(self, reference: Reference) -> str:
        return authorization(self._cli, reference.domain)


def _kind(declared: str, content: bytes) -> str:
    """Return the media type: the one declared, or the one that the document says."""
    if declared in MANIFESTS + LISTS:
        return declared
    return str(parsed(content).get("mediaType", declared))


def normal(text: str) -> Reference:
    """Return what a name stands for: with the default tag, unless it has a digest."""
    from sampan.spec.reference import Reference

    return Reference.parse(text).with_default_tag()
