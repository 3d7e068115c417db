"""A client decides about sources, and may ask what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sampan.api.buildkit.policy import ClientPolicy
from sampan.build.policing import Facts, Source
from sampan.errors import Forbidden, InvalidArgument, Unsupported
from sampan.spec.buildkit import policy_pb2 as pb
from sampan.spec.buildkit import solver_pb2
from sampan.spec.platform import Platform

SOURCE = Source("docker-image://docker.io/library/a:latest", {"k": "v"})
OP = solver_pb2.SourceOp(identifier=SOURCE.identifier, attrs=SOURCE.attributes)


class Client:
    """A session that gives its answers one after the other, the last one ever again."""

    def __init__(self, answers: Sequence[pb.CheckPolicyResponse]) -> None:
        self._answers = list(answers)
        self.asked: list[pb.CheckPolicyRequest] = []

    async def ask(self, method: str, message: Any, kind: type, what: str) -> Any:
        self.asked.append(message)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def decided(**fields: Any) -> pb.CheckPolicyResponse:
    return pb.CheckPolicyResponse(decision=pb.DecisionResponse(**fields))


def wanted(**fields: Any) -> pb.CheckPolicyResponse:
    return pb.CheckPolicyResponse(request=pb.WantedSource(**{"Source": OP, **fields}))


async def facts() -> Facts:
    return Facts("sha256:digest", b"{}")


def judge(*answers: pb.CheckPolicyResponse, ask: Any = facts) -> tuple[Source, Client]:
    client: Any = Client(answers)
    platform = Platform.parse("linux/arm64/v8")
    return asyncio.run(ClientPolicy(client).judge(SOURCE, platform, ask)), client


def test_what_is_allowed_is_the_source_itself() -> None:
    found, client = judge(decided(action=pb.ALLOW))
    assert found is SOURCE
    [request] = client.asked
    assert request.Source.Source == OP
    assert request.Platform.Architecture == "arm64"


def test_what_is_refused_is_told_as_clients_look_for_it() -> None:
    sentence = f'source "{SOURCE.identifier}" not allowed by policy: action DENY: why: and why'
    messages = [pb.DenyMessage(message=it) for it in ("why", "and why")]
    with pytest.raises(Forbidden) as caught:
        judge(decided(action=pb.DENY, denyMessages=messages))
    assert str(caught.value) == sentence


def test_a_decision_that_nobody_knows_is_no_leave() -> None:
    raw = pb.DecisionResponse.FromString(b"\x08\x09")  # action 9
    with pytest.raises(Forbidden, match="action UNKNOWN"):
        judge(pb.CheckPolicyResponse(decision=raw))
    with pytest.raises(InvalidArgument, match="no decision"):
        judge(pb.CheckPolicyResponse())


@pytest.mark.parametrize(("without", "config"), [(True, b""), (False, b"{}")])
def test_a_client_is_told_what_an_image_is(without: bool, config: bytes) -> None:
    image = pb.WantedImage(NoConfig=without)
    _, client = judge(wanted(Image=image), decided(action=pb.ALLOW))
    assert client.asked[1].Source.Image == pb.KnownImage(Digest="sha256:digest", Config=config)


@pytest.mark.parametrize(
    ("fields", "ask"),
    [
        ({"Image": pb.WantedImage(AttestationChain=True)}, facts),
        ({"Image": pb.WantedImage(ResolveAttestations=["x"])}, facts),
        ({}, None),  # no image
    ],
)
def test_what_nobody_can_tell_is_refused(fields: dict[str, Any], ask: Any) -> None:
    with pytest.raises(Unsupported, match="the policy wants to know more of"):
        judge(wanted(**fields), ask=ask)


def test_a_client_learns_of_the_source_in_question_alone() -> None:
    other = solver_pb2.SourceOp(identifier="docker-image://private")
    with pytest.raises(InvalidArgument, match="policy requested different source"):
        judge(wanted(Source=other))


def test_what_comes_in_the_place_of_a_source_is_asked_about_too() -> None:
    pinned = solver_pb2.SourceOp(identifier="docker-image://a@sha256:1")
    found, client = judge(decided(action=pb.CONVERT, update=pinned), decided(action=pb.ALLOW))
    assert found == Source("docker-image://a@sha256:1")
    assert client.asked[1].Source.Source == pinned


def test_questions_have_an_end() -> None:
    with pytest.raises(InvalidArgument, match="too many policy requests"):
        judge(wanted())
