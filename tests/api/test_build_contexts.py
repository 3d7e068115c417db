"""Contexts of builds that are no folder of the client, on a real daemon."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit import control_pb2, gateway_pb2, solver_pb2
from tests import buildkit
from tests.buildkit import Folders, Result
from tests.daemon import Daemon
from tests.layouts import unpacked

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
RECIPE = "FROM busybox\nCOPY f /f\nRUN cat /f\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "f").write_text("content\n")
    (folder / "Dockerfile").write_text(RECIPE)
    return folder


def build(daemon: Daemon, served: Folders, tag: str = "", **attributes: str) -> Result:
    """Build; without a name nothing is made of the result."""
    kinds = ("moby",) if tag else ()
    return asyncio.run(buildkit.build(daemon.socket, served, tag, kinds, **attributes))


def packed(folder: Path, kind: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as opened:  # type: ignore[call-overload]
        opened.add(folder, ".")
    return buffer.getvalue()


def repository(at: Path, folder: Path) -> None:
    """Have a repository that any web server can serve."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(folder), str(at)], check=True)
    subprocess.run(["git", "-C", str(at), "update-server-info"], check=True)


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz"])
def test_a_context_comes_on_standard_input(clean: Daemon, folder: Path, kind: str) -> None:
    served = Folders({}, uploads={"id": packed(folder, kind)})
    made = build(clean, served, context="http://buildkit-session/id")
    assert made.logs == b"content\n"
    assert made.names[0] == "[internal] load remote build context"
    with pytest.raises(GRPCError, match="no http response from session for other"):
        build(clean, served, context="http://buildkit-session/other")


def test_a_context_comes_from_the_web(clean: Daemon, web: str, folder: Path) -> None:
    (folder.parent / "x.tgz").write_bytes(packed(folder, "w:gz"))
    made = build(clean, Folders({}), context=f"{web}/x.tgz")
    assert made.logs == b"content\n"
    (folder.parent / "page").write_text("FROM busybox\nCOPY . /c\nRUN ls /c")
    made = build(clean, Folders({}), context=f"{web}/page")
    assert made.logs == b"context\n"
    own = folder.parent / "own"
    own.mkdir()
    (own / "Dockerfile").write_text("FROM busybox\nCOPY f /g\nRUN cat /g /g")
    served = Folders({"dockerfile": own})
    made = build(clean, served, context=f"{web}/x.tgz", dockerfilekey="dockerfile")
    assert made.logs == b"content\ncontent\n"
    with pytest.raises(GRPCError, match="404"):
        build(clean, Folders({}), context=f"{web}/missing")


def test_a_context_comes_from_a_repository(clean: Daemon, web: str, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "f").write_text("below\n")
    (folder / "sub" / "Dockerfile").write_text(RECIPE)
    repository(folder.parent / "x.git", folder)
    url = f"{web}/x.git"
    assert build(clean, Folders({}), context=url).logs == b"content\n"
    assert build(clean, Folders({}), context=f"{url}#main:sub").logs == b"below\n"
    assert build(clean, Folders({}), context=f"{url}?branch=main&subdir=sub").cached
    made = build(clean, Folders({}), context=url, contextsubdir="sub", **{"no-cache": ""})
    assert made.logs == b"below\n"
    with pytest.raises(GRPCError, match="expected checksum to match 1234567, got "):
        build(clean, Folders({}), context=f"{url}?commit=1234567")
    with pytest.raises(GRPCError, match="repository does not contain ref other"):
        build(clean, Folders({}), context=f"{url}#other")


def test_contexts_have_names(clean: Daemon, web: str, folder: Path) -> None:
    (folder.parent / "page").write_text("page\n")
    repository(folder.parent / "x.git", folder)
    library = folder.parent / "library"
    library.mkdir()
    (library / "l").write_text("library\n")
    (library / "hidden").touch()
    (library / ".dockerignore").write_text("hidden\n.dockerignore")
    (folder / "Dockerfile").write_text(
        "FROM base AS one\nRUN --mount=from=lib,target=/m ls /m; cat /m/l\n"
        "FROM busybox AS two\nRUN exit 1\n"
        "FROM one\nCOPY --from=lib /l /l\nCOPY --from=git /f /f\nCOPY --from=page /context /p\n"
        "COPY --from=two /l /two\nRUN cat /l /f /p /two"
    )
    served = Folders({"context": folder, "dockerfile": folder, "lib": library})
    contexts = {
        "context:base": "docker-image://busybox:latest",
        "context:lib": "local:lib",
        "context:git": f"{web}/x.git#main",
        "context:page": f"{web}/page",
        "context:two": "local:lib",
    }
    made = build(clean, served, "made", **contexts)
    assert made.logs.startswith(b"l\nlibrary\nlibrary\ncontent\npage\nlibrary\nwriting image")
    assert "[context lib] load from client" in made.names
    again = build(clean, served, "made", **contexts)
    assert again.logs.startswith(b"writing image")
    assert again.response["containerimage.digest"] == made.response["containerimage.digest"]


def test_an_image_of_a_layout_of_the_client_is_a_context(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN echo laid >/laid\nENV A=b")
    served = Folders({"context": folder, "dockerfile": folder})
    build(clean, served, "made:1")
    saved = clean.request("GET", "/images/made:1/get").body
    clean.request("DELETE", "/images/made:1")
    clean.request("POST", "/build/prune?all=1")
    layout = folder.parent / "layout"
    target = unpacked(saved, layout)
    (folder / "Dockerfile").write_text("FROM lay\nRUN cat /laid; echo $A")
    served = Folders(served.folders, stores={"oci:kept": layout})
    where = f"oci-layout://kept@{target['digest']}"
    before = {image["Id"] for image in clean.request("GET", "/images/json?all=1").json}
    made = build(clean, served, "made:2", **{"context:lay": where})
    assert made.logs.startswith(b"laid\nb\nwriting image")
    after = {image["Id"] for image in clean.request("GET", "/images/json?all=1").json}
    assert after - before == {made.response["containerimage.digest"]}
    clean.request("DELETE", "/images/made:2")
    again = build(clean, served, "made:2", **{"context:lay": where})
    assert again.cached


def test_the_result_of_a_build_is_a_context_of_another(clean: Daemon, folder: Path) -> None:
    """As `docker buildx bake` does it with `target:`."""
    served = Folders({"context": folder, "dockerfile": folder})

    async def main() -> bytes:
        async with (
            buildkit.session(clean.socket, served) as known,
            buildkit.client(clean.socket) as one,
        ):
            pb = control_pb2
            kept = asyncio.ensure_future(
                one.control("Solve", pb.SolveRequest(Ref="base", Session=known), pb.SolveResponse)
            )
            await one.gateway("Ping", gateway_pb2.PingRequest(), gateway_pb2.PongResponse, "base")
            wanted = gateway_pb2.SolveRequest(Frontend="dockerfile.v0")
            solved = await one.gateway("Solve", wanted, gateway_pb2.SolveResponse, "base")
            (folder / "Dockerfile").write_text("FROM base\nRUN cat /f; echo again")
            inputs = {"base": getattr(solved.result.ref, "def")}
            named = {"context:base": "input:base"}
            made = await buildkit.ask(one, known, "", (), named, inputs=inputs)
            kept.cancel()
            await asyncio.wait([kept])
            return made.logs

    assert asyncio.run(main()) == b"content\nagain\n"


def test_files_of_a_remote_context_can_be_looked_at(clean: Daemon, web: str, folder: Path) -> None:
    """buildx looks for a policy beside the Dockerfile before it builds."""
    (folder.parent / "x.tar").write_bytes(packed(folder))
    source = solver_pb2.Op(source=solver_pb2.SourceOp(identifier=f"{web}/x.tar"))
    definition = solver_pb2.Definition()
    getattr(definition, "def").append(source.SerializeToString())
    pb = gateway_pb2

    async def main() -> tuple[int, bytes, str]:
        async with (
            buildkit.session(clean.socket, Folders({})) as known,
            buildkit.client(clean.socket) as one,
        ):
            request = control_pb2.SolveRequest(Ref="look", Session=known)
            kept = asyncio.ensure_future(one.control("Solve", request, control_pb2.SolveResponse))
            wanted = pb.SolveRequest(Definition=definition)
            ref = (await one.gateway("Solve", wanted, pb.SolveResponse, "look")).ref
            stat = await one.gateway(
                "StatFile", pb.StatFileRequest(Ref=ref, Path="f"), pb.StatFileResponse, "look"
            )
            read = await one.gateway(
                "ReadFile", pb.ReadFileRequest(Ref=ref, FilePath="f"), pb.ReadFileResponse, "look"
            )
            with pytest.raises(GRPCError) as caught:
                await one.gateway(
                    "StatFile", pb.StatFileRequest(Ref=ref, Path="x"), pb.StatFileResponse, "look"
                )
            kept.cancel()
            await asyncio.wait([kept])
            return stat.stat.size, read.Data, str(caught.value.message)

    assert asyncio.run(main()) == (8, b"content\n", "lstat x: no such file or directory")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("frontend.outline", "TARGET: last\n\nBUILD ARG   VALUE   DESCRIPTION\nA           1"),
        ("frontend.targets", "TARGET         DESCRIPTION\nlast (default) \n"),
        ("frontend.lint", ""),
        ("frontend.subrequests.describe", "NAME"),
    ],
)  # fmt: skip
def test_questions_are_answered(clean: Daemon, folder: Path, question: str, expected: str) -> None:
    (folder / "Dockerfile").write_text("FROM busybox AS last\nARG A=1\nRUN exit 1\n")
    served = Folders({"context": folder, "dockerfile": folder})
    made = build(clean, served, requestid=question)
    text = made.metadata["result.txt"].decode()
    assert text.startswith(expected)
    assert json.loads(made.metadata["result.json"])
    assert made.metadata["version"] == b"1.0.0"
