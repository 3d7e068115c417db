"""Engines that are killed at each step of taking in an image: it is there with its name, or not."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.engine.exporting import Exporting
from sampan.engine.images.database import ImageDatabase
from sampan.storage.linux_mounter import LinuxMounter
from tests import mortal, tarballs
from tests.image_shop import Shop, run, stream
from tests.ordeals import stored_below

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

STEPS: tuple[tuple[Any, str], ...] = (
    (ImageDatabase, "_write"),
    (os, "rename"),
    (os, "replace"),
    (os, "link"),
    (os, "unlink"),
    (os, "rmdir"),
    (os, "mkdir"),
    (os, "fsync"),
    (Path, "unlink"),
    (LinuxMounter, "unpack"),
    (LinuxMounter, "commit"),
    (LinuxMounter, "remove"),
)
LAYER = tarballs.archive(tarballs.file("cargo", b"tea"))
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [tarballs.digest(LAYER)]},
    }
).encode()


def packed(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def saved(layer: str) -> bytes:
    """Return what `docker save` gives for an image with two names."""
    described = {"Config": "config.json", "RepoTags": ["a:1", "b:1"], "Layers": [layer]}
    manifest = json.dumps([described]).encode()
    return packed((layer, LAYER), ("config.json", CONFIG), ("manifest.json", manifest))


def opened(root: Path) -> Shop:
    return Shop(root, LinuxMounter(root, "vfs"))


def load(shop: Shop) -> None:
    shop.load(saved("layer.tar"))


def load_by_digest(shop: Shop) -> None:
    shop.load(saved(f"blobs/sha256/{tarballs.digest(LAYER).removeprefix('sha256:')}"))


def import_(shop: Shop) -> None:
    shop.make("a:1", b"tea")


def build(shop: Shop) -> None:
    """Store what a build has made of a layer that is there, with two names."""

    async def record() -> None:
        store, layers = shop.images.store, shop.images.store.layers
        async with store.intake():
            layer = await layers.stage(stream(LAYER))
            with layers.wanted([layer.diff_id]):
                await layers.commit(layer, None, lease=False)
                await Exporting(shop.images).record([CONFIG], [], ["a:1", "b:1"])

    run(record())


@pytest.fixture
def countdown() -> Iterator[mortal.Countdown]:
    countdown = mortal.Countdown()
    yield countdown
    countdown.close()


def stored(root: Path) -> set[str]:
    """Return the blobs, snapshots and unfinished files of an engine."""
    return stored_below(root, "vfs")


def again(root: Path) -> None:
    """Start another engine after one that was killed, and have it look after what was left."""
    shop = opened(root)
    run(shop.images.clean())
    store = shop.images.store
    assert all(store.references(image) for image in store.images), "an image without a name"
    for name in shop.listed():
        shop.remove(name)
    leased = store.layers.leases
    for key in leased:  # complete, and found again by a digest: there for the next attempt
        assert key == tarballs.digest(LAYER) or key.endswith(tarballs.digest(LAYER)[7:])
    run(store.collect(leased=True))
    shop.mounter.close()
    root.joinpath("leased").write_text(str(len(leased)))
    shop.close()


@pytest.mark.parametrize("take", [load, load_by_digest, import_, build])
def test_a_kill_at_any_step_leaves_a_whole_image_or_nothing(
    tmp_path: Path, countdown: mortal.Countdown, take: Callable[[Shop], None]
) -> None:
    def first() -> None:
        shop = opened(tmp_path)
        countdown.install(STEPS)
        take(shop)

    assert exit_of(lambda: again(tmp_path)) == 0
    before = stored(tmp_path)
    step, died = 0, True
    while died:
        step += 1
        countdown.left = step
        died = exit_of(first) == -signal.SIGKILL
        countdown.left = 0
        assert exit_of(lambda: again(tmp_path)) == 0, f"after a kill at step {step}"
        if take is not load_by_digest:
            assert (tmp_path / "leased").read_text() == "0", f"after a kill at step {step}"
        assert stored(tmp_path) == before, f"after a kill at step {step}"
    assert step > 8, "it counts what it should"


def exit_of(work: Callable[[], object]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(mortal.forked(work), 0)[1])
