"""BuildKit's API on a real daemon, by the calls that buildx makes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit import control_pb2, gateway_pb2
from tests import buildkit
from tests.buildkit import Folders, Result
from tests.daemon import Daemon
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context with a file, a folder and a link."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("content\n")
    (tmp_path / "sub" / "link").symlink_to("file")
    (tmp_path / "tool").write_bytes(os.urandom(200_000))
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "empty").touch()
    return tmp_path


def build(daemon: Daemon, folder: Path, dockerfile: str, *args: Any, **attributes: Any) -> Result:
    (folder / "Dockerfile").write_text(dockerfile)
    served = Folders({"context": folder, "dockerfile": folder})
    return asyncio.run(buildkit.build(daemon.socket, served, *args, **attributes))


def test_an_image_is_built_as_buildx_asks_for_it(clean: Daemon, folder: Path) -> None:
    made = build(
        clean,
        folder,
        "FROM busybox\nARG WORD\nCOPY sub /sub\nCOPY tool empty /\n"
        "RUN cat /sub/link && echo $WORD && wc -c </tool && ls -l /tool\nLABEL a=b",
        "made:1,made:2",
        **{"build-arg:WORD": "given", "label:c": "d"},
    )
    image = clean.request("GET", "/images/made:1/json").json
    assert made.response["containerimage.config.digest"] == image["Id"]
    assert made.response["image.name"] == "made:1,made:2"
    assert sorted(image["RepoTags"]) == ["made:1", "made:2"]
    assert image["Config"]["Labels"] == {"a": "b", "c": "d"}
    assert made.logs.startswith(b"content\ngiven\n200000\n-rwxr-xr-x ")
    assert made.names[:3] == [
        "[internal] load build definition from Dockerfile",
        "[internal] load .dockerignore",
        "[internal] load build context",
    ]
    assert made.names[-1] == "exporting to image"
    assert all(vertex.HasField("completed") for vertex in made.vertices.values())


def test_the_same_build_again_comes_from_the_cache(clean: Daemon, folder: Path) -> None:
    recipe = "FROM busybox\nCOPY sub /sub\nRUN date +%s%N >/time"
    first = build(clean, folder, recipe, "made")
    os.utime(folder / "sub" / "file", (1, 1))
    second = build(clean, folder, recipe, "made")
    assert first.cached == []
    assert second.cached == ["[2/3] COPY sub /sub", "[3/3] RUN date +%s%N >/time"]
    assert first.response["containerimage.digest"] == second.response["containerimage.digest"]
    (folder / "sub" / "file").write_text("other\n")
    third = build(clean, folder, recipe, "made")
    assert third.cached == []
    fourth = build(clean, folder, recipe, "made", **{"no-cache": ""})
    assert fourth.cached == []


def test_a_file_that_has_not_changed_is_not_sent_again(clean: Daemon, tmp_path: Path) -> None:
    context, out = tmp_path / "context", tmp_path / "out"
    context.mkdir()
    out.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / "large").write_bytes(os.urandom(2 << 20))
    now = time.time() + 60  # however slow this machine is
    sent = []
    for text, mtime, key in [
        *((b"one", 1e9, "k"), (b"two", 1.1e9, "k"), (b"two", 1.1e9, "k")),
        *((b"six", now, "k"), (b"ten", now, "k"), (b"ten", now, "")),
    ]:
        (context / "small").write_bytes(text)
        os.utime(context / "small", (mtime, mtime))
        for name in ("large", "Dockerfile"):
            os.utime(context / name, (1e9, 1e9))
        folders = {"context": context, "dockerfile": context}
        served = Folders(folders, outputs={"0": out}, shared_key=key)
        asyncio.run(buildkit.build(clean.socket, served, kinds=["local"]))
        sent.append(sorted(served.sent)[1:])  # the Dockerfile is fetched by itself
        assert (out / "small").read_bytes() == text
        assert (out / "large").read_bytes() == (context / "large").read_bytes()
    whole = ["Dockerfile", "large", "small"]
    # What was changed while it was sent may change once more without another time.
    assert sent == [whole, ["small"], [], ["small"], ["small"], whole]
    report = clean.request("POST", "/build/prune?all=1").json
    assert report["SpaceReclaimed"] >= 2 << 20


def test_a_context_that_no_instruction_uses_is_not_sent(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\nLABEL a=b")
    served = Folders({"context": folder, "dockerfile": folder})
    made = asyncio.run(buildkit.build(clean.socket, served, "made"))
    assert set(served.sent) <= {"Dockerfile"}
    assert "[internal] load build context" not in made.names


def test_what_is_ignored_is_not_sent(clean: Daemon, folder: Path) -> None:
    (folder / ".dockerignore").write_text("tool\n# a comment\n")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /")
    served = Folders({"context": folder, "dockerfile": folder})
    asyncio.run(buildkit.build(clean.socket, served, "made"))
    *_, last = served.asked
    assert last["exclude-patterns"] == ["tool"]
    assert served.sent.count("file") == 1
    assert "tool" not in served.sent


def test_the_dockerfile_may_be_elsewhere(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "Recipe").write_text("FROM scratch\nCOPY sub /sub\nCOPY tool /")
    (other / "Recipe.dockerignore").write_text("tool")
    served = Folders({"context": folder, "dockerfile": other})
    with pytest.raises(GRPCError, match="stat tool: file does not exist") as raised:
        asyncio.run(buildkit.build(clean.socket, served, "made", filename="Recipe"))
    assert place_of(raised.value) == ("Recipe", "COPY tool /", [3])


def place_of(error: GRPCError) -> tuple[str, str, list[int]]:
    """Return which file and lines an error is said to come from, and the first of them."""
    [source] = error.details or ()
    lines = [it.start.line for it in source.ranges]
    text = source.info.data.decode().splitlines()[lines[0] - 1]
    return source.info.filename, text, lines


@pytest.mark.parametrize(
    ("recipe", "sentence", "lines"),
    [
        ("FROM busybox\n\nNONE\n", "on line 3: unknown instruction: NONE", [3]),
        ("FROM busybox\nCOPY <<E /x\n1\n", "on line 2: unterminated heredoc", [2]),
        ("FROM busybox\nRUN true\nRUN exit \\\n  3\n",
         'process "/bin/sh -c exit   3" did not complete successfully: exit code: 3', [3, 4]),
        ("FROM busybox\nENV A=${B\nRUN true", "syntax error: missing '}'", [2]),
        ("FROM busybox\nCOPY --from=busybox /none /", "COPY failed: stat /none: file does not"
         " exist", [2]),
        ("FROM $NONE\n", "base name ($NONE) should not be blank", [1]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_lines(
    clean: Daemon, folder: Path, recipe: str, sentence: str, lines: list[int]
) -> None:
    with pytest.raises(GRPCError) as raised:
        build(clean, folder, recipe, "made")
    assert (raised.value.message or "").endswith(sentence)
    assert place_of(raised.value)[2] == lines
    assert place_of(raised.value)[1] == recipe.splitlines()[lines[0] - 1]


@pytest.mark.parametrize(
    ("recipe", "attributes", "status", "sentence"),
    [
        ("FROM busybox\nRUN exit 3", {}, Status.UNKNOWN,
         'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3'),
        ("FROM busybox\nNONE", {}, Status.UNKNOWN, "unknown instruction: NONE"),
        ("FROM busybox", {"target": "x"}, Status.UNKNOWN, "target stage x could not be found"),
        ("FROM busybox", {"filename": "x"}, Status.UNKNOWN,
         "failed to read dockerfile: open x: no such file or directory"),
        ("FROM busybox", {"requestid": "frontend.other"}, Status.UNIMPLEMENTED,
         "unsupported request frontend.other"),
        ("FROM other", {"context:other": "local:other"}, Status.UNKNOWN,
         'no access allowed to dir "other"'),
        ("FROM busybox", {"platform": "linux/amd64,none"}, Status.UNKNOWN,
         '"none": unknown operating system or architecture'),
        ("FROM busybox", {"force-network-mode": "x"}, Status.UNKNOWN, "invalid network mode: x"),
        ("FROM busybox", {"ulimit": "x"}, Status.UNKNOWN, "invalid ulimit: x"),
        ("FROM busybox", {"memory": "x"}, Status.UNKNOWN, "invalid memory: x"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_leaves_no_image(
    clean: Daemon,
    folder: Path,
    recipe: str,
    attributes: dict[str, str],
    status: Status,
    sentence: str,
) -> None:
    with pytest.raises(GRPCError, match=re.escape(sentence)) as raised:
        build(clean, folder, recipe, "made", **attributes)
    assert raised.value.status is status
    assert clean.request("GET", "/images/made/json").status == 404


def test_a_client_without_its_folder_is_told_so(clean: Daemon) -> None:
    with pytest.raises(GRPCError, match='no access allowed to dir "dockerfile"'):
        asyncio.run(buildkit.build(clean.socket, Folders({}), "made"))


def test_a_build_needs_a_session(clean: Daemon) -> None:
    async def ask() -> None:
        async with buildkit.client(clean.socket) as client:
            request = control_pb2.SolveRequest(Ref="r1", Session="none", Frontend="dockerfile.v0")
            await client.control("Solve", request, control_pb2.SolveResponse)

    with pytest.raises(GRPCError, match="no active session for none"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (control_pb2.SolveRequest(Ref="r2", Frontend="gateway.v0"),
         'invalid frontend "gateway.v0"'),
        (control_pb2.SolveRequest(Ref="r3", Entitlements=["network.other"]),
         "unknown entitlement network.other"),
        (control_pb2.SolveRequest(Ref="r4", Cache=control_pb2.CacheOptions(
            Exports=[control_pb2.CacheOptionsEntry(Type="s3")])),
         "cache export to s3 is not supported"),
        (control_pb2.SolveRequest(), "a build has a ref"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused(clean: Daemon, request_: Any, sentence: str) -> None:
    async def ask() -> None:
        async with buildkit.client(clean.socket) as client:
            await client.control("Solve", request_, control_pb2.SolveResponse)

    with pytest.raises(GRPCError, match=re.escape(sentence)):
        asyncio.run(ask())


def test_a_build_that_nobody_waits_for_cannot_be_driven(clean: Daemon) -> None:
    async def ask(build_: str) -> None:
        async with buildkit.client(clean.socket) as client:
            request = gateway_pb2.PingRequest()
            await client.gateway("Ping", request, gateway_pb2.PongResponse, build_)

    with pytest.raises(GRPCError, match="no buildid found in context"):
        asyncio.run(ask(""))
    with pytest.raises(GRPCError, match="no such job nobody"):
        asyncio.run(ask("nobody"))


def test_workers_and_the_cache_are_listed_and_pruned(clean: Daemon, folder: Path) -> None:
    build(clean, folder, "FROM busybox\nRUN echo x >/x", "made")

    async def ask() -> tuple[Any, Any, list[Any]]:
        async with buildkit.client(clean.socket) as client:
            workers = await client.control(
                "ListWorkers", control_pb2.ListWorkersRequest(), control_pb2.ListWorkersResponse
            )
            used = await client.control(
                "DiskUsage", control_pb2.DiskUsageRequest(), control_pb2.DiskUsageResponse
            )
            gone = await client.stream(
                "Prune", control_pb2.PruneRequest(all=True, filter=[""]), control_pb2.UsageRecord
            )
            return workers, used, gone

    workers, used, gone = asyncio.run(ask())
    assert [worker.ID for worker in workers.record] == ["sampan"]
    assert any("echo x >/x" in record.Description for record in used.record)
    assert {record.ID for record in gone} == {record.ID for record in used.record}


def test_files_go_into_a_folder_and_an_archive_of_the_client(
    clean: Daemon, folder: Path, tmp_path: Path
) -> None:
    out, archive = tmp_path / "out", tmp_path / "out.tar"
    out.mkdir()
    (folder / "hard").hardlink_to(folder / "tool")
    (folder / ".dockerignore").write_text("out*")
    (folder / "Dockerfile").write_text("FROM scratch\nADD tool hard sub /d/\nWORKDIR /empty")
    served = Folders({"context": folder, "dockerfile": folder}, outputs={"0": out, "1": archive})
    asyncio.run(buildkit.build(clean.socket, served, kinds=["local", "tar"]))
    with tarfile.open(archive) as opened:
        members = {member.name: member for member in opened.getmembers()}
        extracted = opened.extractfile("d/tool")
        assert extracted is not None
        assert extracted.read() == (folder / "tool").read_bytes()
    assert set(members) == {"d", "d/tool", "d/hard", "d/file", "d/link", "empty"}
    assert members["d/link"].linkname == "file"
    assert members["d/tool"].mode == 0o755
    assert {str(path.relative_to(out)) for path in out.rglob("*")} == set(members)
    assert (out / "d" / "tool").read_bytes() == (folder / "tool").read_bytes()
    assert (out / "d" / "link").readlink() == Path("file")
    assert os.access(out / "d" / "tool", os.X_OK)
    named = {tag for one in clean.request("GET", "/images/json").json for tag in one["RepoTags"]}
    assert named == clean.images


@pytest.mark.parametrize("kind", ["local", "tar"])
def test_an_output_that_the_client_does_not_take_is_an_error(
    clean: Daemon, folder: Path, kind: str
) -> None:
    with pytest.raises(GRPCError, match="exporter 0 not found"):
        build(clean, folder, "FROM busybox", "", [kind])


def test_an_unknown_output_is_refused_before_anything_is_built(clean: Daemon, folder: Path) -> None:
    with pytest.raises(GRPCError, match='exporter "nydus" could not be found'):
        build(clean, folder, "FROM busybox\nRUN exit 1", "", ["nydus"])


def test_a_client_may_speak_http2_from_the_first_byte_on(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY tool /")
    served = Folders({"context": folder, "dockerfile": folder})

    async def both() -> list[Result]:
        async with buildkit.direct(clean.socket, served) as (session, client):
            return [await buildkit.ask(client, session, name) for name in ("made", "again")]

    made, again = asyncio.run(both())
    assert made.response["image.name"] == "made"
    assert again.cached == ["[2/2] COPY tool /"]
    assert clean.request("GET", "/images/again/json").json["RepoTags"] == [
        "again:latest",
        "made:latest",
    ]


def test_checks_are_told_beside_the_build_and_alone(clean: Daemon, folder: Path) -> None:
    recipe = "FROM busybox as base\nMAINTAINER me\nCMD x"
    made = build(clean, folder, recipe, "made")
    assert made.warnings == [
        "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"
        " (line 2)",
        "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior"
        " related to OS signals (line 3)",
    ]
    alone = build(clean, folder, recipe, "", (), requestid="frontend.lint")
    found = json.loads(alone.metadata["result.json"])
    assert [one["ruleName"] for one in found["warnings"]] == [
        "FromAsCasing", "MaintainerDeprecated", "JSONArgsRecommended",
    ]  # fmt: skip
    assert found["warnings"][1]["location"]["ranges"] == [
        {"start": {"line": 2}, "end": {"line": 2}}
    ]
    assert base64.b64decode(found["sources"][0]["data"]).decode() == recipe
    assert alone.metadata["result.statuscode"] == b"1"
    assert "[internal] load build context" not in alone.names


def test_a_client_that_leaves_stops_its_build(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN sleep 1000")
    served = Folders({"context": folder, "dockerfile": folder})

    def containers() -> list[Any]:
        found: list[Any] = clean.request("GET", "/containers/json").json
        return found

    async def leave() -> None:
        task = asyncio.ensure_future(buildkit.build(clean.socket, served, "made"))
        while not await asyncio.to_thread(containers):
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(leave())
    eventually(lambda: not containers())
    assert clean.request("GET", "/images/made/json").status == 404
