"""What clients may call things: repositories, tags, digests, uploads. Parsed once, at the edge.

Source: opencontainers/distribution-spec spec.md, "Pulling manifests"; distribution/reference.
"""

from __future__ import annotations

import re

from sampan.errors import InvalidArgument
from sampan.registry.errors import RegistryError
from sampan.spec.digest import Digest, parse_digest

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
NAME_LENGTH = 255
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ALGORITHMS = ("sha256", "sha384", "sha512")


def repository(text: str) -> str:
    """Return `text` as the name of a repository, or answer NAME_INVALID."""
    if not is_repository(text):
        raise RegistryError("NAME_INVALID", {"name": text[:NAME_LENGTH]})
    return text


def is_repository(text: str) -> bool:
    """Tell whether `text` can be the name of a repository."""
    return len(text) <= NAME_LENGTH and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Tell whether `text` can be a tag."""
    return _TAG.fullmatch(text) is not None


def tag(text: str) -> str:
    """Return `text` as a tag, or answer TAG_INVALID."""
    if not is_tag(text):
        raise RegistryError("TAG_INVALID", {"tag": text[:128]}, message="invalid tag name")
    return text


def digest(text: str) -> Digest:
    """Return `text` as a digest that we can verify, or answer DIGEST_INVALID."""
    try:
        parsed = parse_digest(text)
    except InvalidArgument as error:
        raise RegistryError("DIGEST_INVALID", {"digest": text[:256]}, message=str(error)) from None
    if parsed.partition(":")[0] not in ALGORITHMS:
        raise RegistryError(
            "DIGEST_INVALID", {"digest": text}, message="unsupported digest algorithm"
        )
    return parsed


def upload(text: str) -> str:
    """Return `text` as the id of an upload, or answer BLOB_UPLOAD_UNKNOWN."""
    if not _UPLOAD.fullmatch(text):
        raise RegistryError("BLOB_UPLOAD_UNKNOWN")
    return text
