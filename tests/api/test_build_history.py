"""What an engine remembers of builds, and of what they made, by the calls that buildx makes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit import control_pb2 as pb
from tests import buildkit
from tests.buildkit import Folders
from tests.daemon import Daemon, running
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
KIND = pb.BuildHistoryEventType


@pytest.fixture
def clean(daemon: Daemon) -> Iterator[Daemon]:
    """Give a daemon without history, and leave it no images of this test and no cache."""
    for event in listed(daemon):
        update(daemon, Ref=event.record.Ref, Delete=True)
    yield daemon
    daemon.remove_other_images()
    assert daemon.request("POST", "/build/prune?all=1").status == 200


def build(daemon: Daemon, folder: Path, recipe: str, **attributes: str) -> None:
    (folder / "Dockerfile").write_text(recipe)
    served = Folders({"context": folder, "dockerfile": folder})
    asyncio.run(buildkit.build(daemon.socket, served, "made", **attributes))


def called(daemon: Daemon, name: str, request: Any, reply: type) -> Any:
    async def main() -> Any:
        async with buildkit.client(daemon.socket) as one:
            if reply in (pb.BuildHistoryEvent, pb.StatusResponse, pb.UsageRecord):
                return await one.stream(name, request, reply)
            return await one.control(name, request, reply)

    return asyncio.run(main())


def listed(daemon: Daemon, **fields: Any) -> list[pb.BuildHistoryEvent]:
    request = pb.BuildHistoryRequest(EarlyExit=True, **fields)
    found: list[pb.BuildHistoryEvent] = called(
        daemon, "ListenBuildHistory", request, pb.BuildHistoryEvent
    )
    return found


def update(daemon: Daemon, **fields: Any) -> None:
    request = pb.UpdateBuildHistoryRequest(**fields)
    called(daemon, "UpdateBuildHistory", request, pb.UpdateBuildHistoryResponse)


def usage(daemon: Daemon, **fields: Any) -> list[pb.UsageRecord]:
    request = pb.DiskUsageRequest(**fields)
    return list(called(daemon, "DiskUsage", request, pb.DiskUsageResponse).record)


def prune(daemon: Daemon, **fields: Any) -> list[pb.UsageRecord]:
    found: list[pb.UsageRecord] = called(daemon, "Prune", pb.PruneRequest(**fields), pb.UsageRecord)
    return found


@pytest.mark.parametrize("name", ["context", "context:lib"])
@pytest.mark.parametrize("page", ["x.git", "page"])
def test_passwords_in_addresses_are_not_remembered(
    clean: Daemon, tmp_path: Path, name: str, page: str
) -> None:
    address = f"http://captain:hunter2@127.0.0.1:9/{page}"
    with pytest.raises(GRPCError):
        build(clean, tmp_path, "FROM lib", **{name: address})
    [failed] = [event.record for event in listed(clean)]
    assert failed.FrontendAttrs[name] == f"http://xxxxx:xxxxx@127.0.0.1:9/{page}"
    told = called(clean, "Status", pb.StatusRequest(Ref=failed.Ref), pb.StatusResponse)
    assert any(vertex.name for one in told for vertex in one.vertexes)
    assert not any(b"hunter2" in one.SerializeToString() for one in (failed, *told))


def test_passwords_in_a_dockerfile_are_shown_to_nobody(clean: Daemon, tmp_path: Path) -> None:
    text = "FROM busybox\nADD http://captain:hunter2@127.0.0.1:9/x /\nmaintainer x\n"
    with pytest.raises(GRPCError) as caught:
        build(clean, tmp_path, text)
    [source] = caught.value.details or []
    assert b"http://xxxxx:xxxxx@127.0.0.1:9/x" in source.info.data
    [record] = [event.record for event in listed(clean)]
    told = called(clean, "Status", pb.StatusRequest(Ref=record.Ref), pb.StatusResponse)
    everything = [one.SerializeToString() for one in (source, record, *told)]
    assert not any(b"hunter2" in one for one in everything)


def test_builds_are_remembered_with_what_they_said(clean: Daemon, tmp_path: Path) -> None:
    build(clean, tmp_path, "FROM busybox\nRUN echo one\nrun echo two", **{"build-arg:A": "b"})
    with pytest.raises(GRPCError):
        build(clean, tmp_path, "FROM busybox\nRUN echo three; exit 7")
    failed, done = [event.record for event in listed(clean)]
    assert done.FrontendAttrs["build-arg:A"] == "b"
    assert done.Exporters[0].Attrs["name"] == "made"
    assert done.ExporterResponse["image.name"] == "made"
    assert done.numTotalSteps == done.numCompletedSteps == 6
    assert (done.numCachedSteps, done.numWarnings) == (0, 1)
    assert done.CreatedAt.ToNanoseconds() < done.CompletedAt.ToNanoseconds()
    assert not done.HasField("error")
    assert "exit code: 7" in failed.error.message
    assert failed.numCompletedSteps == failed.numTotalSteps - 1
    told = called(clean, "Status", pb.StatusRequest(Ref=done.Ref), pb.StatusResponse)
    logs = b"".join(log.msg for one in told for log in one.logs)
    assert logs.startswith(b"one\ntwo\nwriting image")


def test_history_is_filtered_pinned_and_forgotten(clean: Daemon, tmp_path: Path) -> None:
    build(clean, tmp_path, "FROM scratch\nLABEL a=1")
    with pytest.raises(GRPCError):
        build(clean, tmp_path, "FROM scratch\nNONE")
    failed, done = [event.record.Ref for event in listed(clean)]

    def refs(*filters: str, **fields: Any) -> list[str]:
        return [event.record.Ref for event in listed(clean, Filter=filters, **fields)]

    assert refs("status==completed") == [done]
    assert refs("status==error") == [failed]
    assert refs(f"ref~={done[:10]}") == [done]
    assert refs("status!=completed", "status==completed") == [failed, done]
    assert refs("startedAt>1h,duration<1m") == [failed, done]
    assert refs("completedAt<2001-01-01T00:00:00Z") == []
    assert refs(Limit=1) == [failed]
    assert refs(Ref=done) == [done]
    assert refs(ActiveOnly=True) == []
    with pytest.raises(GRPCError, match="invalid filter 'other'"):
        refs("other==1")
    with pytest.raises(GRPCError, match="patterns are not supported"):
        refs("ref~=(a+)+")
    update(clean, Ref=done, Pinned=True)
    assert [event.record.pinned for event in listed(clean)] == [False, True]
    update(clean, Ref=failed, Delete=True)
    assert refs() == [done]
    with pytest.raises(GRPCError, match=f"failed to find ref {failed}"):
        update(clean, Ref=failed, Delete=True)


def test_who_listens_hears_of_builds_as_they_go(clean: Daemon, tmp_path: Path) -> None:
    build(clean, tmp_path, "FROM scratch\nLABEL a=1")
    [old] = [event.record.Ref for event in listed(clean)]
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=2")
    served = Folders({"context": tmp_path, "dockerfile": tmp_path})

    async def main() -> list[int]:
        seen: list[int] = []
        listens, three = asyncio.Event(), asyncio.Event()
        async with buildkit.client(clean.socket) as one:

            async def listen() -> None:
                async for event in one.events("ListenBuildHistory", pb.BuildHistoryRequest(),
                                              pb.BuildHistoryEvent):  # fmt: skip
                    if event.record.Ref == old:
                        listens.set()
                        continue
                    seen.append(event.type)
                    if event.type == KIND.COMPLETE:
                        ref = event.record.Ref
                        request = pb.UpdateBuildHistoryRequest(Ref=ref, Delete=True)
                        reply = pb.UpdateBuildHistoryResponse
                        asyncio.ensure_future(one.control("UpdateBuildHistory", request, reply))  # noqa: RUF006
                    if event.type == KIND.DELETED:
                        three.set()

            task = asyncio.ensure_future(listen())
            async with asyncio.timeout(PATIENCE):
                await listens.wait()
            await buildkit.build(clean.socket, served)
            async with asyncio.timeout(PATIENCE):
                await three.wait()
            task.cancel()
            await asyncio.wait([task])
        return seen

    assert asyncio.run(main()) == [KIND.STARTED, KIND.COMPLETE, KIND.DELETED]


def test_the_cache_is_listed_with_its_parents_and_pruned_by_conditions(
    clean: Daemon, tmp_path: Path
) -> None:
    build(clean, tmp_path, "FROM busybox\nRUN echo 1234 >/a\nRUN echo 123 >/b\nLABEL a=b")
    layers = usage(clean, filter=["type==regular"])
    first, second = sorted(layers, key=lambda one: -one.Size)
    assert (first.Size, second.Size) == (5, 4)
    assert second.Parents == [first.ID]
    assert first.Shared
    [label] = usage(clean, filter=["type==internal"])
    assert label.Description == "LABEL a=b"
    assert usage(clean, ageLimit=10**12) == []
    assert usage(clean, filter=["description~=echo 123 >"]) == [second]
    assert prune(clean) == []  # an image shares them
    clean.remove_other_images()
    assert prune(clean, maxUsedSpace=100) == []
    assert prune(clean, keepDuration=10**12, all=True) == []
    assert [one.ID for one in prune(clean, reservedSpace=4)] == [first.ID]
    df = clean.request("GET", "/system/df?type=build-cache").json["BuildCache"]
    assert {one["ID"]: one["Size"] for one in df} == {second.ID: 4, label.ID: 0}
    assert {one.ID for one in prune(clean, all=True, filter=["", ""])} == {second.ID, label.ID}
    assert usage(clean) == []


def test_history_outlasts_a_killed_daemon_and_the_cache_is_swept(tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    policy = {"enabled": True, "policy": [{"all": True, "maxUsedSpace": "1KB"}]}
    config.write_text(json.dumps({"builder": {"gc": policy}}))
    with running("--config-file", str(config)) as daemon:
        daemon.import_image()
        build(daemon, tmp_path, "FROM busybox\nRUN dd if=/dev/zero of=/a bs=1000 count=1")
        build(daemon, tmp_path, "FROM busybox\nRUN dd if=/dev/zero of=/b bs=900 count=1")
        eventually(lambda: sum(one.Size for one in usage(daemon)) == 900)
        before = [event.record for event in listed(daemon)]
        daemon.kill()
        daemon.start()
        assert [event.record for event in listed(daemon)] == before
        told = called(daemon, "Status", pb.StatusRequest(Ref=before[0].Ref), pb.StatusResponse)
        assert any(one.vertexes for one in told)


def run(daemon: Daemon, *command: str, code: int = 0) -> str:
    result = subprocess.run(
        [daemon.programs["sampan"], *command],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout
    return result.stdout


def test_the_command_line_shows_the_cache(clean: Daemon, tmp_path: Path) -> None:
    assert clean.request("POST", "/build/prune?all=1").status == 200  # of others
    build(clean, tmp_path, "FROM busybox\nRUN echo 1234 >/a\n")
    table = run(clean, "builder", "du")
    assert table.splitlines()[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert "5B*" in table
    assert table.splitlines()[-1].split() == ["Total:", "5B"]
    verbose = run(clean, "builder", "du", "--verbose", "--filter", "type=regular")
    assert "Description:  /bin/sh -c echo 1234 >/a\n" in verbose
    assert run(clean, "builder", "du", "--filter", "until=1h").count("\n") == 1
    ids = run(clean, "builder", "du", "--format", "{{.ID}} {{.Size}}").split()
    assert ids[1] == "5"
    assert "invalid filter 'x'" in run(clean, "builder", "du", "--filter", "x=y", code=1)
    said = run(clean, "builder", "prune", "-af", "--max-used-space", "1b")
    assert said.endswith("Total reclaimed space: 0B\n")
