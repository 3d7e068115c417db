"""Classes of repositories: what kind of thing a manifest is, for `policy.repository.classes`.

Source: distribution registry/handlers/manifests.go, applyResourcePolicy (the same in 2.8 and 3.1).
"""

from __future__ import annotations

from collections.abc import Collection

from sampan.errors import InvalidArgument
from sampan.registry.errors import RegistryError
from sampan.spec.image import (
    MEDIA_CONFIG,
    MEDIA_DOCKER_CONFIG,
    MEDIA_DOCKER_MANIFEST,
    parse_document,
)

IMAGE, PLUGIN = "image", "plugin"
MEDIA_PLUGIN = "application/vnd.docker.plugin.v1+json"


def demand(
    content: bytes, media_type: str, allowed: Collection[str], granted: Collection[str]
) -> None:
    """Answer DENIED to a manifest of a class that is not allowed here, or not granted to a client.

    `granted` are the classes of the repository that the client's token names; empty where it names
    none. An index has no class; what is no manifest at all is refused by whoever reads it.
    """
    try:
        document = parse_document(content, media_type)
    except InvalidArgument:
        return
    if document.is_index:
        return
    config = document.config.media_type if document.config else ""
    if (media_type or document.kind) == MEDIA_DOCKER_MANIFEST:
        found = {MEDIA_DOCKER_CONFIG: IMAGE, MEDIA_PLUGIN: PLUGIN}.get(config)
    else:
        found = IMAGE if config == MEDIA_CONFIG else None
    if found is None:
        raise RegistryError("DENIED", message=f"unknown manifest class for {config[:128]}")
    if found not in allowed:
        raise RegistryError("DENIED", message=f"registry does not allow {found} manifest")
    if granted and found not in granted:
        raise RegistryError("DENIED", message=f"repository not authorized for {found} manifest")
