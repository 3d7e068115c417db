"""Which attestations a client wants, as attributes of a build: `attest:provenance`, `attest:sbom`.

Source: buildkit frontend/attestations/parse.go, solver/llbsolver/provenance.go (values).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.build.exporting.options import boolean
from sampan.errors import InvalidArgument

_PREFIX: Final = "attest:"
_ARGUMENT: Final = "build-arg:BUILDKIT_ATTEST_"
GENERATOR: Final = "docker/buildkit-syft-scanner:stable-1"  # of SBOMs, unless another is named
_VERSIONS: Final = ("v1", "v0.2")
_MODES: Final = {"min": False, "max": True, "full": True}


@dataclass(frozen=True, slots=True)
class ProvenanceWish:
    """How the provenance is wanted."""

    whole: bool = True  # with all arguments, secrets' names and the Dockerfile
    version: str = "v1"  # of SLSA's format
    inline_only: bool = False  # only where it costs nothing: nobody has asked for it
    reproducible: bool = False  # the client says so
    complete: bool = False  # an error if it does not name all that came in
    builder: str = ""
    filename: str = "provenance.json"


@dataclass(frozen=True, slots=True)
class SbomWish:
    """How the list of what is in an image is made."""

    generator: str = GENERATOR
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttestationWishes:
    """All that is wanted."""

    provenance: ProvenanceWish | None = None
    sbom: SbomWish | None = None


def attestations_of(attributes: Mapping[str, str]) -> AttestationWishes:
    """Return what attributes ask for. Raises InvalidArgument."""
    provenance, sbom = None, None
    for name, text in attributes.items():
        kind = _kind(name)
        if kind is None:
            continue
        words = _words(kind, text)
        if kind == "provenance":
            provenance = _provenance(words)
        elif kind == "sbom":
            sbom = _sbom(words)
        else:
            raise InvalidArgument(f'unknown attestation type "{kind}"')
    return AttestationWishes(provenance, sbom)


def _kind(name: str) -> str | None:
    for prefix in (_PREFIX, _ARGUMENT):
        if name.startswith(prefix):
            return name.removeprefix(prefix).lower()
    return None


def _words(kind: str, text: str) -> dict[str, str]:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except (csv.Error, StopIteration) as error:
        raise InvalidArgument(f"failed to parse {kind}: {error}") from error
    return dict(one.partition("=")[::2] for one in fields if one)


def _provenance(words: Mapping[str, str]) -> ProvenanceWish:
    mode, version = words.get("mode", "max"), words.get("version", "v1")
    if mode not in _MODES:
        raise InvalidArgument(f'invalid mode "{mode}"')
    if version not in _VERSIONS:
        raise InvalidArgument(f"invalid provenance SLSA version: {version}")
    filename = words.get("filename", "provenance.json")
    if "/" in filename or filename in ("", ".", ".."):
        raise InvalidArgument(f'invalid filename "{filename}" of the provenance')
    return ProvenanceWish(
        _MODES[mode],
        version,
        boolean(words, "inline-only", default=False),
        boolean(words, "reproducible", default=False),
        boolean(words, "complete-materials", default=False),
        words.get("builder-id", ""),
        filename,
    )


def _sbom(words: Mapping[str, str]) -> SbomWish:
    parameters = dict(words)
    generator = parameters.pop("generator", GENERATOR)
    if not generator:
        raise InvalidArgument("sbom generator cannot be empty")
    return SbomWish(generator, parameters)
