"""Builds that come out the same everywhere, and the folders that builds share."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sampan.spec.buildkit import control_pb2
from tests import buildkit
from tests.buildkit import Folders, Result
from tests.daemon import Daemon, running

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
EPOCH = "1600000000"
RECIPE = """
FROM busybox AS tools
WORKDIR /made
RUN echo tool >tool && chmod 755 tool && touch -d '2030-01-01 00:00:00' late && mkdir -p a/b
FROM busybox
ARG SOURCE_DATE_EPOCH
LABEL epoch=$SOURCE_DATE_EPOCH
COPY --chown=7:8 sub /sub
COPY --from=tools /made /made
ADD file /added/
WORKDIR /work/deep
RUN --mount=type=cache,target=/shared --mount=type=tmpfs,target=/quick \\
    echo x >/quick/x && cp /made/tool . && ln tool hard && ln -s tool soft && rm /bin/yes
HEALTHCHECK CMD true
"""


def context(folder: Path, moment: int) -> Path:
    """Have the same files, with other times after the epoch, made in another order."""
    (folder / "sub").mkdir(parents=True)
    for name in ("file", "sub/other", "sub/file")[:: 1 if moment % 2 else -1]:
        (folder / name).write_text(f"content of {name}\n")
    (folder / "Dockerfile").write_text(RECIPE)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (moment, moment))
    return folder


def build(daemon: Daemon, folder: Path, tags: str = "made", **more: Any) -> Result:
    out = folder.parent / f"{folder.name}.tar"
    served = Folders({"context": folder, "dockerfile": folder}, outputs={"1": out})
    kinds = ["moby", "oci"]
    return asyncio.run(buildkit.build(daemon.socket, served, tags, kinds, **more))


def classic(daemon: Daemon, folder: Path, more: str = "") -> Any:
    """Build by the classic API; return the image."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        opened.add(folder, ".")
    query = f"t=classic&buildargs=%7B%22SOURCE_DATE_EPOCH%22:%22{EPOCH}%22%7D"
    answer = daemon.request("POST", f"/build?{query}{more}", archive.getvalue())
    assert answer.status == 200, answer.body
    return daemon.request("GET", "/images/classic/json").json


def test_the_same_inputs_make_the_same_digests_on_every_engine(
    clean: Daemon, tmp_path: Path
) -> None:
    first, second = (
        context(tmp_path / "one", 1_700_000_001),
        context(tmp_path / "two", 1_800_000_000),
    )
    epoch = {"build-arg:SOURCE_DATE_EPOCH": EPOCH}
    here = build(clean, first, **epoch)
    base = clean.request("GET", "/images/busybox/get").body
    with running("--storage-driver=vfs") as other:
        assert other.request("POST", "/images/load", base).status == 200
        traced = classic(other, second, "&trace=1")  # as `sampan build` asks for it
        assert traced["Id"] == here.response["containerimage.config.digest"]
        assert other.request("POST", "/build/prune?all=1").status == 200
        assert classic(other, second)["RootFS"] == traced["RootFS"]  # but in other words
        assert other.request("POST", "/build/prune?all=1").status == 200
        there = build(other, second, **epoch)
    assert there.response["containerimage.digest"] == here.response["containerimage.digest"]
    image = clean.request("GET", "/images/made/json").json
    assert image["Created"].startswith("2020-09-13T12:26:40")
    with tarfile.open(tmp_path / "one.tar") as a, tarfile.open(tmp_path / "two.tar") as b:
        assert sorted(a.getnames()) == sorted(b.getnames())
    assert _latest(clean, "made") == int(EPOCH)


def _latest(daemon: Daemon, image: str) -> int:
    """Return the latest time of all files that an image has beyond its base."""
    known = set(daemon.request("GET", "/images/busybox/json").json["RootFS"]["Layers"])
    saved, latest = io.BytesIO(daemon.request("GET", f"/images/{image}/get").body), 0
    for layer in daemon.request("GET", f"/images/{image}/json").json["RootFS"]["Layers"]:
        saved.seek(0)
        with tarfile.open(fileobj=saved) as outer:
            file = outer.extractfile(f"blobs/sha256/{layer.removeprefix('sha256:')}")
            assert file
            content = file.read()
        with tarfile.open(fileobj=io.BytesIO(content)) as opened:
            times = [int(member.mtime) for member in opened]
        latest = max(latest, *times) if layer not in known else latest
    return latest


# --- folders that builds share -----------------------------------------------------------------

SHARING = (
    "FROM busybox\nARG N\nRUN --mount=type=cache,id=shop,target=/c echo $N >>/c/log; cat /c/log"
)


def shared(daemon: Daemon, folder: Path, number: str) -> list[str]:
    (folder / "Dockerfile").write_text(SHARING)
    served = Folders({"context": folder, "dockerfile": folder})
    attributes = {"build-arg:N": number}
    made = asyncio.run(buildkit.build(daemon.socket, served, "made", **attributes))
    return [word for word in made.logs.decode().split() if word.isdigit()]


def ask(daemon: Daemon, *filters: str, prune: bool = False, since: int = 0) -> list[Any]:
    """Return the shared folders that are there, or that go."""

    async def main() -> list[Any]:
        async with buildkit.client(daemon.socket) as client:
            if prune:
                request = control_pb2.PruneRequest(filter=filters, keepDuration=since)
                return await client.stream("Prune", request, control_pb2.UsageRecord)
            answer = await client.control(
                "DiskUsage", control_pb2.DiskUsageRequest(), control_pb2.DiskUsageResponse
            )
            return list(answer.record)

    return [one for one in asyncio.run(main()) if one.RecordType == "exec.cachemount"]


def test_shared_folders_are_listed_and_pruned(clean: Daemon, tmp_path: Path) -> None:
    assert shared(clean, tmp_path, "1") == ["1"]
    assert shared(clean, tmp_path, "2") == ["1", "2"]
    [record] = ask(clean)
    assert record.Description == "cached mount shop"
    assert (record.Mutable, record.InUse, record.Size > 0) == (True, False, True)
    assert record.UsageCount == 2
    assert ask(clean, "type==regular", prune=True) == []
    assert ask(clean, prune=True, since=3600 * 10**9) == []
    [gone] = ask(clean, "type==exec.cachemount", prune=True)
    assert gone.ID == record.ID
    assert ask(clean) == []
    assert shared(clean, tmp_path, "3") == ["3"]
    report = clean.request("POST", "/build/prune").json
    assert record.ID in report["CachesDeleted"]


def test_shared_folders_move_to_another_engine_as_archives(clean: Daemon, tmp_path: Path) -> None:
    """As docs/how-to/builds.md tells it."""
    shared(clean, tmp_path, "1")
    [record] = ask(clean)
    with _mounting(clean, record.ID) as container:
        archive = clean.request("GET", f"/containers/{container}/archive?path=/c").body
    with running() as other:
        base = clean.request("GET", "/images/busybox/get").body
        assert other.request("POST", "/images/load", base).status == 200
        labels = {"org.sampan.build.cache": "shop"}
        asked = json.dumps({"Name": record.ID, "Labels": labels}).encode()
        assert other.request("POST", "/volumes/create", asked).status == 201
        with _mounting(other, record.ID) as container:
            put = other.request("PUT", f"/containers/{container}/archive?path=/", archive)
            assert put.status == 200
        assert shared(other, tmp_path, "2") == ["1", "2"]
        other.remove_other_images()


class _mounting:  # noqa: N801 - it is used like a function
    """A container that has a volume."""

    def __init__(self, daemon: Daemon, volume: str) -> None:
        self.daemon, self.volume = daemon, volume

    def __enter__(self) -> str:
        binds = {"HostConfig": {"Binds": [f"{self.volume}:/c"]}, "Image": "busybox"}
        asked = json.dumps({"Cmd": ["true"], **binds}).encode()
        answer = self.daemon.request("POST", "/containers/create", asked)
        self.id = str(answer.json["Id"])
        return self.id

    def __exit__(self, *_: object) -> None:
        self.daemon.request("DELETE", f"/containers/{self.id}")
