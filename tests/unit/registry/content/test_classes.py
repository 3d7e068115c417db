"""Classes of repositories. What docker-registry says to the same is compared in tests/compat."""

from __future__ import annotations

import json

import pytest

from sampan.registry.content.classes import IMAGE, MEDIA_PLUGIN, PLUGIN, demand
from sampan.registry.errors import RegistryError
from sampan.spec.image import (
    MEDIA_CONFIG,
    MEDIA_DOCKER_CONFIG,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
)


def manifest(kind: str, config: str) -> bytes:
    part = {"mediaType": config, "digest": "sha256:" + "0" * 64, "size": 2}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": part, "layers": []}
    ).encode()


DOCKER = (manifest(MEDIA_DOCKER_MANIFEST, MEDIA_DOCKER_CONFIG), MEDIA_DOCKER_MANIFEST)
OCI = (manifest(MEDIA_MANIFEST, MEDIA_CONFIG), MEDIA_MANIFEST)
OF_PLUGIN = (manifest(MEDIA_DOCKER_MANIFEST, MEDIA_PLUGIN), MEDIA_DOCKER_MANIFEST)
LIST = (b'{"schemaVersion": 2, "manifests": []}', MEDIA_INDEX)
NONSENSE = (b"{", MEDIA_MANIFEST)


@pytest.mark.parametrize(
    ("what", "allowed", "granted"),
    [
        (DOCKER, [IMAGE], []),
        (OCI, [IMAGE], [IMAGE]),
        (OF_PLUGIN, [PLUGIN], []),
        (OF_PLUGIN, [IMAGE, PLUGIN], [IMAGE, PLUGIN]),
        (LIST, [PLUGIN], [PLUGIN]),
        (NONSENSE, [PLUGIN], []),  # is refused by whoever reads it
    ],
)
def test_what_is_allowed_and_granted_is_taken(
    what: tuple[bytes, str], allowed: list[str], granted: list[str]
) -> None:
    demand(*what, allowed, granted)


@pytest.mark.parametrize(
    ("what", "allowed", "granted", "told"),
    [
        (DOCKER, [PLUGIN], [], "registry does not allow image manifest"),
        (OF_PLUGIN, [IMAGE], [PLUGIN], "registry does not allow plugin manifest"),
        (OF_PLUGIN, [IMAGE, PLUGIN], [IMAGE], "repository not authorized for plugin manifest"),
        (OCI, [IMAGE, PLUGIN], [PLUGIN], "repository not authorized for image manifest"),
        (
            (manifest(MEDIA_MANIFEST, MEDIA_PLUGIN), MEDIA_MANIFEST),
            [IMAGE, PLUGIN],
            [],
            f"unknown manifest class for {MEDIA_PLUGIN}",
        ),
    ],
)
def test_what_is_not_is_denied(
    what: tuple[bytes, str], allowed: list[str], granted: list[str], told: str
) -> None:
    with pytest.raises(RegistryError) as denied:
        demand(*what, allowed, granted)
    assert denied.value.status == 403
    assert denied.value.items[0].message == told
