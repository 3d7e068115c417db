"""Policies of clients: what a build fetches is what the client allows, on a real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit import control_pb2
from sampan.spec.buildkit import policy_pb2 as pb
from tests import buildkit
from tests.buildkit import Folders
from tests.daemon import Daemon

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
Answer = Callable[[pb.CheckPolicyRequest], pb.CheckPolicyResponse]


def decision(action: pb.PolicyAction, **fields: object) -> pb.CheckPolicyResponse:
    return pb.CheckPolicyResponse(decision=pb.DecisionResponse(action=action, **fields))  # type: ignore[arg-type]


def allow(_: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
    return decision(pb.ALLOW)


def solve(
    daemon: Daemon, folder: Path, policy: Answer | None, address: str = ""
) -> tuple[str, list[str]]:
    """Build; return what is wrong, and the names of the sources that the client was asked about."""
    asked: list[str] = []

    def answer(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        assert policy is not None
        asked.append(request.Source.Source.identifier)
        return policy(request)

    served = Folders({"context": folder, "dockerfile": folder}, policy=answer)

    async def main() -> str:
        async with (
            buildkit.session(daemon.socket, served) as known,
            buildkit.client(daemon.socket) as one,
        ):
            request = control_pb2.SolveRequest(
                Ref=known,
                Session=known,
                Frontend="dockerfile.v0",
                FrontendAttrs={"context": address} if address else {},
                SourcePolicySession=known if policy else "",
            )
            try:
                await one.control("Solve", request, control_pb2.SolveResponse)
            except GRPCError as error:
                return str(error.message)
            return ""

    return asyncio.run(main()), asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context whose Dockerfile fetches something of each kind."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "f").write_text("content\n")
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY f /f\n")
    return folder


def test_a_client_is_asked_about_everything_that_a_build_fetches(
    clean: Daemon, folder: Path, web: str
) -> None:
    (folder.parent / "page").write_text("page\n")
    (folder / "Dockerfile").write_text(f"FROM busybox\nCOPY f /f\nADD {web}/page /p\n")
    sentence, asked = solve(clean, folder, allow)
    assert sentence == ""
    image = "docker-image://docker.io/library/busybox:latest"
    assert set(asked) == {"local://dockerfile", "local://context", image, f"{web}/page"}
    assert solve(clean, folder, None) == ("", [])


@pytest.mark.parametrize("scheme", ["local://", "docker-image://", "http://"])
def test_what_a_client_refuses_is_not_used(
    clean: Daemon, folder: Path, web: str, scheme: str
) -> None:
    (folder.parent / "page").write_text("page\n")
    (folder / "Dockerfile").write_text(f"FROM busybox\nADD {web}/page /p\nCOPY f /f\n")

    def refuse(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        if request.Source.Source.identifier.startswith(scheme):
            return decision(pb.DENY, denyMessages=[pb.DenyMessage(message="not that")])
        return decision(pb.ALLOW)

    sentence, _ = solve(clean, folder, refuse)
    assert f'source "{scheme}' in sentence
    assert sentence.endswith('" not allowed by policy: action DENY: not that')


def test_a_context_that_is_fetched_is_asked_about(clean: Daemon, folder: Path, web: str) -> None:
    (folder.parent / "page").write_text("FROM scratch\nLABEL a=b\n")
    address = f"{web}/page"
    assert solve(clean, folder, allow, address) == ("", [address])
    sentence, _ = solve(clean, folder, lambda _: decision(pb.DENY), address)
    assert sentence == f'source "{address}" not allowed by policy: action DENY'


def test_a_client_that_answers_nothing_allows_nothing(clean: Daemon, folder: Path) -> None:
    sentence, _ = solve(clean, folder, lambda _: pb.CheckPolicyResponse())
    assert sentence == "no decision in policy response"
