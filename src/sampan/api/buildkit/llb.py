"""As much of LLB as clients send who build from Dockerfiles: sources, and results of other builds.

buildx looks into remote contexts before it builds of them, and `docker buildx bake` gives the
result of one build to another.

Source: buildkit solver/pb/ops.proto, attr.go (attributes of sources), client/llb/source.go.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.buildkit import solver_pb2 as pb
from sampan.spec.digest import Digest, digest_of

# What sources and operations of clients may be.
CAPABILITIES: Final = (
    "source.git",
    "source.git.fullurl",
    "source.git.subdir",
    "source.git.checksum",
    "source.git.skipsubmodules",
    "source.git.mtime",
    "source.git.fetchbycommit",
    "source.http",
    "source.policy.session",
    "file.base",
    "meta.description",
    "meta.ignorecache",
    "constraints",
    "platform",
    "exporter.image.attestations",
    "exporter.image.annotations",
    "exporter.multiple",
    "gc.freespacefilter",
)
_RESULT: Final = "sampan-result://"
_GIT: Final = "git://"
_FULL: Final = "git.fullurl"
_CHECKSUM: Final = "git.checksum"
_KEEP: Final = "git.keepgitdir"
_WEB: Final = ("http://", "https://")
_MAX: Final = 64  # operations


def definition_of(result: str) -> pb.Definition:
    """Return what stands for the result of a build."""
    source = pb.Op(source=pb.SourceOp(identifier=f"{_RESULT}{result}"))
    raw = source.SerializeToString(deterministic=True)
    last = pb.Op(inputs=[pb.Input(digest=digest_of(raw))])
    definition = pb.Definition()
    getattr(definition, "def").extend([raw, last.SerializeToString(deterministic=True)])
    for one in getattr(definition, "def"):
        definition.metadata[digest_of(one)].SetInParent()  # without any it counts as none
    return definition


def result_of(definition: pb.Definition) -> str:
    """Return the result that a definition stands for, "" if it is something else."""
    identifier = _source(definition).identifier
    return identifier.removeprefix(_RESULT) if identifier.startswith(_RESULT) else ""


def address_of(definition: pb.Definition) -> str:
    """Return the address of the repository or page that a definition means.

    Raises Unsupported for all other operations, InvalidArgument for what is no definition.
    """
    source = _source(definition)
    if source.identifier.startswith(_WEB):
        return source.identifier
    if not source.identifier.startswith(_GIT):
        raise Unsupported("builds from LLB are not supported: send a Dockerfile")
    if source.attrs.get(_KEEP) == "true":
        raise Unsupported("keeping the .git directory of a build context is not supported")
    url, mark, fragment = source.identifier.partition("#")
    url = source.attrs.get(_FULL) or f"https://{url.removeprefix(_GIT)}"
    checksum = source.attrs.get(_CHECKSUM)
    query = f"?checksum={checksum}" if checksum else ""
    return f"{url}{query}{mark}{fragment}"


def _source(definition: pb.Definition) -> pb.SourceOp:
    """Return the source of a definition that is nothing else but a copy of it."""
    raws = list(getattr(definition, "def"))
    if not 0 < len(raws) <= _MAX:
        raise InvalidArgument("invalid definition: it has no operations, or too many")
    try:
        ops = {digest_of(raw): pb.Op.FromString(raw) for raw in raws}
    except DecodeError as error:
        raise InvalidArgument("failed to parse llb proto op") from error
    op = ops[digest_of(raws[-1])]
    for _ in raws:
        kind = op.WhichOneof("op")
        if kind == "source":
            return op.source
        if len(op.inputs) != 1 or not (kind is None or _is_copy(op.file)):
            break
        below = ops.get(Digest(op.inputs[0].digest))
        if below is None:
            raise InvalidArgument("invalid definition: an input is missing")
        op = below
    raise Unsupported("builds from LLB are not supported: send a Dockerfile")


def _is_copy(file: pb.FileOp) -> bool:
    """Tell whether an operation puts a whole source, unpacked, into nothing."""
    copies = [one.copy for one in file.actions if one.WhichOneof("action") == "copy"]
    return (
        len(file.actions) == len(copies) == 1
        and copies[0].dest in ("", "/")
        and copies[0].attemptUnpackDockerCompatibility
    )
