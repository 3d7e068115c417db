"""Manifests as `manifest` commands keep and show them: docker's own documents.

Source: docker/cli cli/manifest/types/types.go.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256

from sampan.cli.manifests.json_text import safe_for_html
from sampan.client import documents
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS, LISTS = (DOCKER_MANIFEST, OCI_MANIFEST), (DOCKER_LIST, OCI_INDEX)
PLATFORM_FIELDS = ("architecture", "os", "os.version", "os.features", "variant")
FIELDS = {DOCKER_MANIFEST: "SchemaV2Manifest", OCI_MANIFEST: "OCIManifest"}


class Entry:
    """One manifest of a list: what it is called, its platform, and its bytes."""

    def __init__(
        self, reference: str, media_type: str, content: bytes, platform: dict[str, Any] | None
    ) -> None:
        self.reference = reference
        self.media_type = media_type
        self.content = content
        self.platform = platform_fields(platform) if platform is not None else None

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    def blobs(self) -> list[str]:
        """Return the digests of the configuration and the layers."""
        manifest = parsed(self.content)
        descriptors = [manifest.get("config") or {}, *(manifest.get("layers") or [])]
        return [str(item["digest"]) for item in descriptors if item.get("digest")]

    def document(self) -> dict[str, Any]:
        """Return what docker keeps of a manifest, and shows with `inspect --verbose`."""
        descriptor = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.content),
        }
        if self.platform is not None:
            descriptor["platform"] = self.platform
        return {
            "Ref": self.reference,
            "Descriptor": descriptor,
            "Raw": b64encode(self.content).decode(),
            FIELDS[self.media_type]: parsed(self.content),
        }

    def descriptor(self) -> dict[str, Any]:
        """Return how a list names the manifest."""
        platform = self.platform or {}
        return {
            "mediaType": self.media_type,
            "size": len(self.content),
            "digest": self.digest,
            "platform": {"architecture": "", "os": "", **platform},
        }


def entry_of(document: dict[str, Any]) -> Entry | None:
    """Return the entry of a kept document; None if it has not kept the manifest's bytes.

    Raises ValueError or KeyError if it is no such document.
    """
    if not document.get("Raw"):
        return None
    kind = str(document["Descriptor"]["mediaType"])
    if kind not in MANIFESTS:
        raise ValueError(f"unknown media type {kind}")
    content = b64decode(document["Raw"], validate=True)
    return Entry(str(document["Ref"]), kind, content, document["Descriptor"].get("platform"))


def platform_fields(platform: dict[str, Any]) -> dict[str, Any]:
    """Return a platform's fields in their order; only the first two may be empty."""
    fields = {name: platform.get(name) for name in PLATFORM_FIELDS}
    always = {name: str(fields[name] or "") for name in PLATFORM_FIELDS[:2]}
    return always | {name: value for name, value in fields.items() if value and name not in always}


def list_document(entries: Iterable[Entry]) -> bytes:
    """Return the manifest list, or OCI index, of these manifests: docker's bytes."""
    descriptors = [entry.descriptor() for entry in entries]
    oci = bool(descriptors) and descriptors[0]["mediaType"] == OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX if oci else DOCKER_LIST,
        "manifests": descriptors,
    }
    return go_json(document, 3).encode("utf-8", "surrogatepass")


def list_type(content: bytes) -> str:
    """Return the media type that a list's document says it has."""
    return str(parsed(content)["mediaType"])


def go_json(value: Any, indent: int | str) -> str:
    """Format as Go's MarshalIndent does."""
    return safe_for_html(json.dumps(value, indent=indent, ensure_ascii=False))


def parsed(content: bytes) -> dict[str, Any]:
    """Return a manifest's document. Raises InvalidArgument."""
    try:
        document = documents.decode(content)
    except ValueError as error:
        raise InvalidArgument(f"the manifest is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument("the manifest is no JSON object")
    return document


def digest_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"
