"""The checker: each kind of thing is broken on a real store, found, and mended."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.engine.images.model import ImageUse
from sampan.rpc import Fd
from sampan.spec.digest import Digest
from sampan.spec.storage import CheckReport
from sampan.storage.linux_mounter import LinuxMounter
from tests import tarballs
from tests.image_shop import Shop, run, stream
from tests.layouts import Layout
from tests.tarballs import archive, file

pytestmark = [pytest.mark.privileged]

BASE, TOP, OTHER = (archive(file(name, name.encode() * 999)) for name in ("base", "top", "other"))
APP = "docker.io/library/app:1"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A store on a disk, with app:1 for two platforms and made:latest from here."""
    mounter = LinuxMounter(tmp_path)
    shop = Shop(tmp_path, mounter)
    layout = Layout()
    amd, arm = layout.image(BASE, TOP), layout.image(BASE, OTHER, architecture="arm64")
    layout.name(layout.index(amd, arm, layout.attestation(amd)), APP)
    shop.load(layout.archive())
    shop.make("made", b"made here")
    yield shop
    shop.close()
    mounter.close()


def check(shop: Shop, *, repair: bool = False) -> CheckReport:
    return run(shop.images.check(repair=repair))


def told(report: CheckReport) -> set[str]:
    return {problem.kind for problem in report.problems}


def blob(shop: Shop, digest: str) -> Path:
    return shop.root / "content" / "blobs" / digest.replace(":", "/")


def snapshot(shop: Shop, chain: str) -> Path:
    return shop.root / "snapshots" / "overlay" / chain.replace(":", "-")


def spoil(path: Path) -> None:
    """Change a byte, and neither size nor time."""
    status = path.stat()
    with path.open("r+b") as opened:
        first = opened.read(1)
        opened.seek(0)
        opened.write(bytes([first[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def restart(shop: Shop) -> None:
    shop.close()
    shop.open()


def test_a_whole_store_has_no_problems_and_everything_is_counted(shop: Shop) -> None:
    report = check(shop)
    assert report.problems == []
    counts = report.checked
    assert (counts.images, counts.layers, counts.references) == (3, 4, 2)
    assert counts.blobs == len(shop.blobs())
    assert counts.mounts > 0
    assert counts.bytes > sum(map(len, (BASE, TOP, OTHER)))


def made(shop: Shop) -> str:
    return run(shop.images.resolve("made")).id


def spoil_configuration(shop: Shop) -> None:
    spoil(blob(shop, made(shop)))


def remove_configuration(shop: Shop) -> None:
    blob(shop, made(shop)).unlink()


def spoil_archive(shop: Shop) -> None:
    spoil(blob(shop, shop.images.store.layers.kept()[0].blob or ""))


def remove_archive(shop: Shop) -> None:
    blob(shop, shop.images.store.layers.kept()[0].blob or "").unlink()


def index(shop: Shop) -> str:
    return str(shop.images.store.names.targets()[0])


def spoil_index(shop: Shop) -> None:
    spoil(blob(shop, index(shop)))


def remove_index(shop: Shop) -> None:
    blob(shop, index(shop)).unlink()


def spoil_file_of_layer(shop: Shop) -> None:
    spoil(snapshot(shop, tarballs.chain(BASE, TOP)) / "fs" / "top")


def remove_file_of_layer(shop: Shop) -> None:
    (snapshot(shop, tarballs.chain(BASE, TOP)) / "fs" / "top").unlink()


def remove_layer(shop: Shop) -> None:
    os.rename(snapshot(shop, tarballs.chain(BASE, TOP)), shop.root / "gone")


def execute(shop: Shop, statement: str, *values: str) -> None:
    with sqlite3.connect(shop.root / "database.sqlite") as connection:
        connection.execute(statement, values)
    connection.close()


def forget_layer(shop: Shop) -> None:
    execute(shop, "DELETE FROM image_chains WHERE chain_id = ?", tarballs.chain(BASE, TOP))
    restart(shop)


def add_stray_row(shop: Shop) -> None:
    execute(shop, "INSERT INTO image_chains VALUES (?, ?, 1)", "sha256:" + "0" * 64, "sha256:x")
    restart(shop)


def add_stray_blob(shop: Shop) -> None:
    shop.images.store.content.add(b"stray")


def add_stray_file(shop: Shop) -> None:
    (shop.root / "content" / "blobs" / "sha256" / "stray").write_bytes(b"x")


def add_stray_layer(shop: Shop) -> None:
    stray = archive(file("stray"))
    fd = tarballs.memory_file(stray)
    try:
        shop.mounter.unpack(Fd(fd), "staged-x")
        shop.mounter.commit("staged-x", tarballs.chain(stray), None)
    finally:
        os.close(fd)


def add_stray_container(shop: Shop) -> None:
    shop.mounter.prepare("c" * 64, None)


BREAKAGES: dict[str, tuple[Callable[[Shop], None], set[str], list[str]]] = {
    # how, the kinds of problems, the names that are left after the repair
    "configuration spoiled": (spoil_configuration, {"blob", "image"}, ["app:1"]),
    "configuration gone": (remove_configuration, {"image"}, ["app:1"]),
    "archive spoiled": (spoil_archive, {"blob"}, ["app:1", "made:latest"]),
    "archive gone": (remove_archive, {"blob"}, ["app:1", "made:latest"]),
    "index spoiled": (spoil_index, {"blob", "reference"}, ["app:1", "made:latest"]),
    "index gone": (remove_index, {"reference"}, ["app:1", "made:latest"]),
    "file of a layer spoiled": (
        spoil_file_of_layer, {"layer", "image"}, ["app:1", "made:latest"],
    ),
    "file of a layer gone": (remove_file_of_layer, {"layer", "image"}, ["app:1", "made:latest"]),
    "layer gone": (remove_layer, {"layer", "image"}, ["app:1", "made:latest"]),
    "row of a layer gone": (forget_layer, {"layer"}, ["app:1", "made:latest"]),
    "row of nothing": (add_stray_row, {"layer"}, ["app:1", "made:latest"]),
    "content of nothing": (add_stray_blob, {"blob"}, ["app:1", "made:latest"]),
    "file of nothing": (add_stray_file, {"blob"}, ["app:1", "made:latest"]),
    "layer of nothing": (add_stray_layer, {"layer"}, ["app:1", "made:latest"]),
    "container of nothing": (add_stray_container, {"container"}, ["app:1", "made:latest"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_broken_is_found_and_mended(shop: Shop, name: str) -> None:
    breakage, kinds, names = BREAKAGES[name]
    breakage(shop)
    found = check(shop)
    assert told(found) == kinds
    assert not any(problem.repaired for problem in found.problems)
    assert all(len(problem.message.splitlines()) == 1 for problem in found.problems)
    assert told(check(shop)) == kinds  # looking changes nothing
    mended = check(shop, repair=True)
    assert [it.message for it in mended.problems if not it.repaired] == []
    for _ in range(2):
        assert check(shop).problems == []
        assert [it for it in shop.listed() if ":" in it] == names
        restart(shop)
    for name in shop.listed():  # without its index, a further platform has no name any more
        assert shop.save(name)
        shop.remove(name)
    assert shop.blobs() == set()
    assert shop.mounter.snapshots() == []


def test_an_engine_starts_on_a_store_that_is_broken(shop: Shop) -> None:
    remove_configuration(shop)
    restart(shop)
    assert shop.listed() == ["app:1"]
    assert told(check(shop)) == {"image", "reference", "layer"}
    check(shop, repair=True)
    assert check(shop).problems == []
    restart(shop)
    assert check(shop).problems == []


def test_a_broken_image_that_a_container_is_made_of_is_told_and_stays(shop: Shop) -> None:
    image = run(shop.images.resolve("made"))
    shop.mounter.prepare("c" * 64, image.chain_id)
    shop.uses.append(ImageUse("c" * 64, image.id, running=False))
    spoil(snapshot(shop, image.chain_id or "") / "fs" / "f")
    report = check(shop, repair=True)
    assert told(report) == {"layer", "image"}
    assert not any(problem.repaired for problem in report.problems)
    assert "made:latest" in shop.listed()


def test_a_container_without_its_file_system_is_told(shop: Shop) -> None:
    shop.uses.append(ImageUse("d" * 64, made(shop), running=False))
    (problem,) = check(shop).problems
    assert problem.message == f"The container {'d' * 12} has no file system"


def test_mounts_that_were_left_behind_are_told(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        f"36 35 98:0 / {tmp_path}/snapshots/overlay/x/merged rw - overlay overlay rw\n"
        "37 35 98:0 / /proc rw - proc proc rw\n"
    )
    monkeypatch.setattr("sampan.engine.images.checking.MOUNTS", table)
    report = check(shop)
    assert [problem.kind for problem in report.problems] == ["mount"]
    assert report.checked.mounts == 2


def test_what_comes_in_during_a_check_is_no_problem(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout()
    layout.name(layout.image(archive(file("more"))), "docker.io/library/more:1")
    verify, arrived = shop.mounter.verify, []

    async def load() -> None:
        async for message in shop.images.load(stream(layout.archive())):
            arrived.append(message)

    async def checked() -> CheckReport:
        loop = asyncio.get_running_loop()

        def slowly(chain: str) -> list[str]:
            if not arrived:
                asyncio.run_coroutine_threadsafe(load(), loop).result()
            return verify(chain)

        monkeypatch.setattr(shop.mounter, "verify", slowly)
        return await shop.images.check(repair=True)

    assert run(checked()).problems == []
    assert "more:1" in shop.listed()


def test_a_broken_layer_that_has_come_again_is_not_dropped(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, asked = shop.mounter.verify, list[str]()

    def once(chain: str) -> list[str]:
        if asked:
            return verify(chain)
        asked.append(chain)
        return ["it was broken"]

    monkeypatch.setattr(shop.mounter, "verify", once)
    assert told(check(shop, repair=True)) == {"layer", "image"}
    assert shop.listed() == ["app:1", "made:latest"]


def test_what_an_interrupted_load_left_is_no_problem(shop: Shop) -> None:
    layout = Layout()
    extra = archive(file("extra", b"x" * 5000))
    layout.name(layout.image(extra), "docker.io/library/more:1")
    with pytest.raises(Exception, match="too early"):
        shop.load(layout.archive()[:-9000])
    assert check(shop).problems == []
    assert Digest(tarballs.digest(extra)) not in shop.images.store.layers.chains
