"""What a client wants of an output, as the attributes of BuildKit's exporters.

Source: buildkit exporter/containerimage/exptypes (keys.go, annotations.go), exporter/oci.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.booleans import FALSE, TRUE
from sampan.spec.exports import GZIP, Compression, parse_compression
from sampan.spec.platform import Platform

_ANNOTATION: Final = re.compile(
    r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)", re.ASCII
)
_TARGETS: Final = ("manifest", "manifest-descriptor", "index", "index-descriptor")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, and where it goes; without a platform it is for all manifests."""

    target: str
    platform: Platform | None
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one output shall be like."""

    names: Sequence[str] = ()
    push: bool = False
    by_digest: bool = False
    store: bool = True
    canonical: bool = False  # also a name with the digest
    tar: bool = True
    oci: bool = True  # media types
    artifact: bool = True  # the form of attestations
    inline: bool = False  # attestations that nobody has asked for, too
    compression: Compression = GZIP
    annotations: Sequence[Annotation] = ()
    plain: bool = True  # nothing is said of manifests

    def annotated(self, target: str, platform: Platform | None = None) -> dict[str, str]:
        """Return the annotations for a place."""
        return {
            one.key: one.value
            for one in self.annotations
            if one.target == target and one.platform in (None, platform)
        }


def wishes_of(kind: str, attributes: Mapping[str, str]) -> Wishes:
    """Return what attributes say. Raises InvalidArgument, Unsupported for what is not there."""
    _check(attributes)
    force = boolean(attributes, "force-compression", default=False)
    compression = parse_compression(
        attributes.get("compression", ""), attributes.get("compression-level", ""), force=force
    )
    oci = boolean(attributes, "oci-mediatypes", default=True)
    if compression.kind == "zstd" and not oci:
        raise InvalidArgument(
            'exporter option "compression=zstd" conflicts with "oci-mediatypes=false"'
        )
    artifact = boolean(attributes, "oci-artifact", default=oci)
    if artifact and not oci:
        raise InvalidArgument(
            'exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"'
        )
    push = boolean(attributes, "push", default=False)
    is_image = kind not in ("oci", "docker")
    annotations = _annotations(attributes)
    if not oci and any(one.target != "manifest" for one in annotations):
        raise InvalidArgument('cannot export annotations with "oci-mediatypes=false"')
    return Wishes(
        names=[name for name in attributes.get("name", "").split(",") if name],
        push=push,
        by_digest=boolean(attributes, "push-by-digest", default=False),
        store=boolean(attributes, "store", default=True),
        canonical=boolean(attributes, "name-canonical", default=False),
        tar=boolean(attributes, "tar", default=True),
        oci=oci,
        artifact=artifact,
        inline=oci and boolean(attributes, "attestation-inline", default=push and is_image),
        compression=compression,
        annotations=annotations,
        plain=not annotations and compression == GZIP and "oci-mediatypes" not in attributes,
    )


def _check(attributes: Mapping[str, str]) -> None:
    if boolean(attributes, "registry.insecure", default=False):
        raise Unsupported(
            "registry.insecure is not supported: name the registry in insecure-registries of the"
            " daemon"
        )
    if boolean(attributes, "prefer-nondist-layers", default=False):
        raise Unsupported("prefer-nondist-layers is not supported")
    if attributes.get("source-date-epoch"):
        raise Unsupported("source-date-epoch of an output is not supported: use the build argument")
    boolean(attributes, "rewrite-timestamp", default=False)  # layers have no later times anyway


def boolean(attributes: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return a boolean; "" is true, as with BuildKit."""
    text = attributes.get(name)
    if text is None:
        return default
    if text in ("", *TRUE):
        return True
    if text in FALSE:
        return False
    raise InvalidArgument(f"non-bool value specified for {name}: {text}")


def _annotations(attributes: Mapping[str, str]) -> list[Annotation]:
    found = []
    for name, value in attributes.items():
        match = _ANNOTATION.fullmatch(name)
        if match is None:
            continue
        target = match[1] or "manifest"
        if target not in _TARGETS:
            raise InvalidArgument(f"unrecognized annotation type {target}")
        platform = Platform.parse(match[2]) if match[2] else None
        found.append(Annotation(target, platform, match[3], value))
    return sorted(found, key=lambda one: one.key)
