"""Caches of RUN that begin with files of a stage or an image."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Mount
from tests import tarballs
from tests.build_worker import FakeCaches, Yard

TEXT = (
    "FROM box AS one\nRUN write /seed/f {}\nFROM box\n"
    "RUN --mount=type=cache,id=shop,target=/c,from=one{} print {}"
)


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have(
        "box", tarballs.folder("etc"), tarballs.file("etc/hosts"),
        tarballs.raw(b"seed/", b"5", mode=b"0000750", uid=b"0000007"),
        tarballs.symlink("link", "seed"),
    )  # fmt: skip
    return yard


def begun(yard: Yard) -> list[dict[str, tarfile.TarInfo]]:
    """Return the files that each cache began with."""
    found = []
    for archive in yard.worker.mounted_caches.filled.values():
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            found.append({member.name: member for member in opened})
    return found


def volumes(yard: Yard) -> list[str]:
    return [mount.source for step in yard.worker.steps for mount in step.mounts]


def test_a_cache_begins_with_a_folder_once(yard: Yard) -> None:
    yard.built(TEXT.format("1", ",source=/seed", "a"))
    yard.built(TEXT.format("1", ",source=/seed", "b"))
    [files] = begun(yard)
    assert sorted(files) == ["cache", "cache/f"]
    assert (files["cache"].mode, files["cache"].uid) == (0o750, 7)
    [first, second] = volumes(yard)
    assert first == second


def test_a_cache_begins_with_all_of_a_state(yard: Yard) -> None:
    yard.built(TEXT.format("1", "", "a"))
    [files] = begun(yard)
    assert {"cache", "cache/etc/hosts", "cache/seed/f", "cache/link"} <= set(files)


def test_a_link_in_the_state_leads_to_its_folder(yard: Yard) -> None:
    yard.built(TEXT.format("1", ",source=/link", "a"))
    assert sorted(begun(yard)[0]) == ["cache", "cache/f"]


def test_another_beginning_is_another_cache_and_another_step(yard: Yard) -> None:
    yard.built(TEXT.format("1", ",source=/seed", "a"))
    assert "Using cache" not in yard.built(TEXT.format("2", ",source=/seed", "a"))
    yard.built(TEXT.format("2", "", "a"))
    yard.built("FROM box\nRUN --mount=type=cache,id=shop,target=/c print a")
    assert len(set(volumes(yard))) == 4
    assert len(begun(yard)) == 3


def test_nothing_is_a_beginning_too(yard: Yard) -> None:
    yard.built("FROM box\nRUN --mount=type=cache,target=/c,from=none print a".replace(
        "FROM box", "FROM scratch AS none\nFROM box"))  # fmt: skip
    assert begun(yard) == []
    assert len(volumes(yard)) == 1


def test_what_was_half_filled_is_filled_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FakeCaches.fill

    async def broken(self: FakeCaches, mount: Mount, write: Callable[[int], None]) -> None:
        await whole(self, mount, write)
        raise InvalidArgument("no space left")

    monkeypatch.setattr(FakeCaches, "fill", broken)
    with pytest.raises(InvalidArgument, match="no space left"):
        yard.built(TEXT.format("1", ",source=/seed", "a"))
    monkeypatch.undo()
    [name] = yard.worker.mounted_caches.filled
    yard.worker.mounted_caches.filled.clear()
    yard.built(TEXT.format("1", ",source=/seed", "a"))
    assert list(yard.worker.mounted_caches.filled) == [name]


def test_a_cache_that_somebody_has_removed_begins_anew(yard: Yard) -> None:
    yard.built(TEXT.format("1", ",source=/seed", "a"))
    yard.worker.mounted_caches.sizes.clear()
    yard.worker.mounted_caches.filled.clear()
    yard.built(TEXT.format("1", ",source=/seed", "b"))
    assert len(begun(yard)) == 1
