"""The provenance of a build: who made it, of what, and how, in SLSA's formats 1 and 0.2.

Fields are those of BuildKit. Its graph of operations (`llbDefinition`, and layers by its steps)
does not exist here: the Dockerfile itself is told instead (decision 033).

Source: buildkit solver/llbsolver/provenance (predicate.go, types/types.go),
docs/attestations/slsa-definitions.md.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sampan.build.attesting.materials import Materials
from sampan.build.attesting.statements import Attestation, digest_set, package_url
from sampan.build.attesting.wishes import ProvenanceWish
from sampan.build.built import Built
from sampan.errors import InvalidArgument
from sampan.http.urls import redacted, redacted_text
from sampan.spec.image import timestamp
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

PROVENANCE_02: Final = "https://slsa.dev/provenance/v0.2"
_TYPES: Final = {"v1": "https://slsa.dev/provenance/v1", "v0.2": PROVENANCE_02}
_BUILD: Final = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_BUILD_02: Final = "https://mobyproject.org/buildkit@v1"
_HOST_SPECIFIC: Final = ("cgroup-parent", "image-resolve-mode", "platform", "cache-imports")
_HIDDEN: Final = ("attest:", "vcs:", "local-sessionid", "session-")
_SECRET: Final = ("build-arg:", "label:")  # told only on demand


@dataclass(frozen=True, slots=True)
class Request:
    """What the client has asked for; times in nanoseconds since the epoch."""

    id: str
    attributes: Mapping[str, str]
    started: int
    finished: int


def provenance(wish: ProvenanceWish, request: Request, built: Built) -> Attestation:
    """Return the provenance of a result. InvalidArgument if it shall be complete and is not."""
    is_local = not request.attributes.get(_context_key(request.attributes))
    complete = built.materials.complete and not is_local
    if wish.complete and not complete:
        raise InvalidArgument("provenance: not all materials of the build have digests")
    predicate = _predicate(wish, request, built, complete=complete, is_local=is_local)
    if wish.version == "v0.2":
        predicate = _older(predicate)
    return Attestation(_TYPES[wish.version], predicate, wish.filename, wish.inline_only)


def _predicate(
    wish: ProvenanceWish, request: Request, built: Built, *, complete: bool, is_local: bool
) -> dict[str, Any]:
    parameters, scrubbed = _parameters(wish, request.attributes, built.materials)
    if is_local:
        parameters["locals"] = [{"name": "context"}, {"name": "dockerfile"}]
    metadata: dict[str, Any] = {
        "invocationId": request.id,
        "startedOn": timestamp(request.started),
        "finishedOn": timestamp(request.finished),
        "buildkit_metadata": _details(wish, request.attributes, built),
        "buildkit_completeness": {"request": not scrubbed, "resolvedDependencies": complete},
    }
    if complete and not built.materials.network:
        metadata["buildkit_hermetic"] = True
    if wish.reproducible:
        metadata["buildkit_reproducible"] = True
    return {
        "buildDefinition": {
            "buildType": _BUILD,
            "externalParameters": {
                "configSource": _source(request.attributes, built.materials),
                "request": parameters,
            },
            "internalParameters": {"builderPlatform": str(Platform.host())},
            "resolvedDependencies": _dependencies(built.materials),
        },
        "runDetails": {"builder": {"id": wish.builder}, "metadata": metadata},
    }


def _context_key(attributes: Mapping[str, str]) -> str:
    return attributes.get("contextkey") or "context"


def _parameters(
    wish: ProvenanceWish, attributes: Mapping[str, str], materials: Materials
) -> tuple[dict[str, Any], bool]:
    """Return what the client has asked for, and whether some of it is left out."""
    arguments, scrubbed = {}, False
    hidden = (*_HOST_SPECIFIC, "filename", _context_key(attributes))
    for name, value in sorted(attributes.items()):
        if name in hidden or name.startswith(_HIDDEN):
            continue
        if not wish.whole and name.startswith(_SECRET):
            scrubbed = True
            continue
        arguments[name] = redacted_text(value)
    found: dict[str, Any] = {"frontend": "dockerfile.v0"}
    if arguments:
        found["args"] = arguments
    if wish.whole:
        for kind, ids in (("secrets", materials.secrets), ("ssh", materials.agents)):
            told = [
                {"id": name} if required else {"id": name, "optional": True}
                for name, required in sorted(ids.items())
            ]
            if told:
                found[kind] = told
    return found, scrubbed


def _source(attributes: Mapping[str, str], materials: Materials) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if remote := attributes.get(_context_key(attributes)):
        found["uri"] = redacted(remote)
        url = remote.partition("#")[0]
        if commit := materials.repositories.get(url):
            found["digest"] = _commit(commit)
    if path := attributes.get("filename"):
        found["path"] = path
    return found


def _dependencies(materials: Materials) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for (name, platform), digest in sorted(materials.images.items(), key=str):
        try:
            uri = package_url(Reference.parse(name), platform)
        except InvalidArgument:
            continue  # an image without a name
        found.append(_dependency(uri, digest_set(digest)))
    for url, commit in sorted(materials.repositories.items()):
        found.append(_dependency(redacted(url), _commit(commit)))
    for url, digest in sorted(materials.pages.items()):
        found.append(_dependency(redacted(url), digest_set(digest)))
    return found


def _dependency(uri: str, digest: Mapping[str, str]) -> dict[str, Any]:
    return {"uri": uri, "digest": digest} if digest else {"uri": uri}


def _commit(commit: str) -> dict[str, str]:
    return {"sha256" if len(commit) == 64 else "sha1": commit} if commit else {}


def _details(wish: ProvenanceWish, attributes: Mapping[str, str], built: Built) -> dict[str, Any]:
    """Return BuildKit's own part."""
    found: dict[str, Any] = {}
    vcs = {
        name.removeprefix("vcs:"): redacted(value)
        for name, value in attributes.items()
        if name.startswith("vcs:") and value
    }
    if vcs:
        found["vcs"] = vcs
    if wish.whole and built.recipe is not None:
        info = {
            "filename": built.recipe.name,
            "language": "Dockerfile",
            "data": b64encode(built.recipe.shown).decode(),
        }
        found["source"] = {"infos": [info]}
    return found


def _older(new: Mapping[str, Any]) -> dict[str, Any]:
    """Return a predicate in the format 0.2."""
    definition, details = new["buildDefinition"], new["runDetails"]
    external, metadata = definition["externalParameters"], details["metadata"]
    source = dict(external["configSource"])
    if "path" in source:
        source["entryPoint"] = source.pop("path")
    told = {
        "buildInvocationID": metadata["invocationId"],
        "buildStartedOn": metadata["startedOn"],
        "buildFinishedOn": metadata["finishedOn"],
        "completeness": {
            "parameters": metadata["buildkit_completeness"]["request"],
            "environment": True,
            "materials": metadata["buildkit_completeness"]["resolvedDependencies"],
        },
        "reproducible": metadata.get("buildkit_reproducible", False),
        f"{_BUILD_02}#metadata": metadata["buildkit_metadata"],
    }
    if metadata.get("buildkit_hermetic"):
        told[f"{_BUILD_02}#hermetic"] = True
    return {
        "builder": details["builder"],
        "buildType": _BUILD_02,
        "materials": definition["resolvedDependencies"],
        "invocation": {
            "configSource": source,
            "parameters": external["request"],
            "environment": {"platform": definition["internalParameters"]["builderPlatform"]},
        },
        "metadata": told,
    }
