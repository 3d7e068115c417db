"""What clients send as LLB, and what they are told instead of it."""

from __future__ import annotations

import pytest

from sampan.api.buildkit.llb import address_of, definition_of, result_of
from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.spec.buildkit import solver_pb2 as pb
from sampan.spec.digest import digest_of


def definition(*ops: pb.Op) -> pb.Definition:
    """Put operations one on the other, as clients do."""
    raws: list[bytes] = []
    for op in ops:
        if raws:
            op.inputs.append(pb.Input(digest=digest_of(raws[-1])))
        raws.append(op.SerializeToString())
    raws.append(pb.Op(inputs=[pb.Input(digest=digest_of(raws[-1]))]).SerializeToString())
    return pb.Definition(**{"def": raws})


def source(identifier: str, **attributes: str) -> pb.Op:
    named = {f"git.{name}": value for name, value in attributes.items()}
    return pb.Op(source=pb.SourceOp(identifier=identifier, attrs=named))


def copied(dest: str = "/", *, unpack: bool = True) -> pb.Op:
    copy = pb.FileActionCopy(src="context", dest=dest, attemptUnpackDockerCompatibility=unpack)
    return pb.Op(file=pb.FileOp(actions=[pb.FileAction(copy=copy)]))


def test_a_result_comes_back_as_it_was_told() -> None:
    assert result_of(definition_of("abc")) == "abc"
    assert result_of(definition(source("https://host/"))) == ""
    assert definition_of("abc").metadata  # clients take one without for none


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        (definition(source("https://host/x.tar")), "https://host/x.tar"),
        (definition(source("http://host/x"), copied()), "http://host/x"),
        (definition(source("git://host/x.git")), "https://host/x.git"),
        (
            definition(source("git://host/x.git#main:a", fullurl="http://host:1/x.git")),
            "http://host:1/x.git#main:a",
        ),
        (
            definition(source("git://host/x.git#v1", checksum="1234567")),
            "https://host/x.git?checksum=1234567#v1",
        ),
    ],
)
def test_an_address_is_found(sent: pb.Definition, address: str) -> None:
    assert address_of(sent) == address


@pytest.mark.parametrize(
    ("sent", "kind", "sentence"),
    [
        (definition(source("docker-image://x")), Unsupported, "builds from LLB are not supported"),
        (definition(source("http://x"), copied("/a")), Unsupported, "LLB"),
        (definition(source("http://x"), copied(unpack=False)), Unsupported, "LLB"),
        (definition(pb.Op()), Unsupported, "LLB"),
        (definition(source("git://x", keepgitdir="true")), Unsupported, r"\.git directory"),
        (pb.Definition(), InvalidArgument, "no operations"),
        (pb.Definition(**{"def": [b"x"] * 65}), InvalidArgument, "too many"),
        (pb.Definition(**{"def": [b"\xff"]}), InvalidArgument, "failed to parse llb proto op"),
        (
            pb.Definition(**{"def": [pb.Op(inputs=[pb.Input(digest="x")]).SerializeToString()]}),
            InvalidArgument,
            "an input is missing",
        ),
    ],
)
def test_everything_else_is_refused(
    sent: pb.Definition, kind: type[SampanError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        address_of(sent)
