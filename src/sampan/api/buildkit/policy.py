"""Policies of clients: what buildx has read with `--policy`, or found beside a Dockerfile.

The client decides about each source. It may want to know more of one first.

Source: buildkit solver/llbsolver/policy.go, sourcepolicy/policysession.
"""

from __future__ import annotations

from typing import Final

from sampan.api.buildkit.sessions import Session
from sampan.build.policing import Ask, Source
from sampan.errors import Forbidden, InvalidArgument, Unsupported
from sampan.spec.buildkit import policy_pb2 as pb
from sampan.spec.buildkit import solver_pb2
from sampan.spec.platform import Platform

_CHECK: Final = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
_ROUNDS: Final = 10  # of questions about one source


class ClientPolicy:
    """See build.policing.Policy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def judge(
        self, source: Source, platform: Platform | None = None, ask: Ask | None = None
    ) -> Source:
        """Return what the client allows for a source."""
        known = pb.KnownSource(Source=_op(source))
        for _ in range(_ROUNDS):
            request = pb.CheckPolicyRequest(Platform=_platform(platform), Source=known)
            answer = await self._session.ask(_CHECK, request, pb.CheckPolicyResponse, "policies")
            if answer.HasField("request"):
                image = await _facts(source, answer.request, ask)
                known = pb.KnownSource(Source=_op(source), Image=image)
                continue
            if not answer.HasField("decision"):
                raise InvalidArgument("no decision in policy response")
            decision = answer.decision
            if decision.action == pb.ALLOW:
                return source
            if decision.action != pb.CONVERT:
                raise Forbidden(_refusal(source, decision))
            source = Source(decision.update.identifier, dict(decision.update.attrs))
            known, ask = pb.KnownSource(Source=_op(source)), None
        raise InvalidArgument("too many policy requests")


async def _facts(source: Source, wanted: pb.WantedSource, ask: Ask | None) -> pb.KnownImage:
    """Return what the client wants to know, of the source that it was asked about alone."""
    if wanted.Source != _op(source):
        raise InvalidArgument(
            f"policy requested different source: {wanted.Source.identifier!r}"
            f" != {source.identifier!r}"
        )
    image = wanted.Image
    if ask is None or image.AttestationChain or image.ResolveAttestations:
        raise Unsupported(
            f"the policy wants to know more of {source.identifier!r} than can be told:"
            " of images their digest and configuration, of other sources what they are called"
        )
    facts = await ask()
    return pb.KnownImage(Digest=facts.digest, Config=b"" if image.NoConfig else facts.config)


def _op(source: Source) -> solver_pb2.SourceOp:
    return solver_pb2.SourceOp(identifier=source.identifier, attrs=source.attributes)


def _platform(platform: Platform | None) -> solver_pb2.Platform | None:
    if platform is None:
        return None
    return solver_pb2.Platform(
        Architecture=platform.architecture, OS=platform.os, Variant=platform.variant
    )


def _refusal(source: Source, decision: pb.DecisionResponse) -> str:
    """Return what clients look for in errors, to tell them from others, and why."""
    action = pb.PolicyAction.Name(decision.action) if decision.action == pb.DENY else "UNKNOWN"
    why = "".join(f": {it.message}" for it in decision.denyMessages)
    return f'source "{source.identifier}" not allowed by policy: action {action}{why}'
