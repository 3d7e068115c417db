"""In-toto statements: what is said of files or images that a digest names.

Source: in-toto/attestation spec/v1/statement.md; buildkit exporter/attestation/make.go,
util/purl/image.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from sampan.spec.digest import Digest, algorithm, encoded
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_KEPT: Final = "$&+="  # what package URLs leave as it is in a part of a path
Subject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attestation:
    """Something that is said of a result."""

    kind: str  # the type of the predicate
    predicate: Any
    filename: str
    inline_only: bool = False
    subjects: Sequence[Subject] = ()  # none: what it is attached to

    def statement(self, subjects: Sequence[Subject]) -> dict[str, Any]:
        """Return it as a statement about `subjects`, unless it has its own."""
        return {
            "_type": _STATEMENT,
            "predicateType": self.kind,
            "subject": list(self.subjects or subjects),
            "predicate": self.predicate,
        }


def encode(statement: Mapping[str, Any]) -> bytes:
    """Return a statement as bytes."""
    return msgspec.json.encode(statement)


def digest_set(digest: str) -> dict[str, str]:
    """Return a digest as in-toto has it; an empty set for none."""
    return {algorithm(Digest(digest)): encoded(Digest(digest))} if digest else {}


def subject(name: str, digest: str) -> Subject:
    """Return something with a digest."""
    return {"name": name, "digest": digest_set(digest)}


def package_url(reference: Reference, platform: Platform | None) -> str:
    """Return the package URL of an image: `pkg:docker/name@tag?platform=linux%2Famd64`."""
    qualifiers = {}
    if reference.digest is not None:
        qualifiers["digest"] = str(reference.digest)
    else:
        reference = reference.with_default_tag()
    if platform is not None:
        qualifiers["platform"] = str(platform)
    name = "/".join(quote(part, safe=_KEPT) for part in reference.familiar_name.split("/"))
    version = f"@{quote(reference.tag, safe=_KEPT)}" if reference.tag else ""
    query = "&".join(f"{key}={quote(value, safe=':')}" for key, value in qualifiers.items())
    return f"pkg:docker/{name}{version}" + (f"?{query}" if query else "")
