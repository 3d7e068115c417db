"""A blob that is read from far away counts as used meanwhile."""

from __future__ import annotations

import pytest

from sampan.registry.errors import RegistryError
from sampan.registry.proxy import reading
from sampan.registry.proxy.reading import Reading
from tests.own_registry import Shop, sha


def test_it_is_noted_from_time_to_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = shop.push_blob("a", b"content")
    noted: list[str] = []
    content = shop.registry.blobs.open("a", digest)  # type: ignore[arg-type]
    with Reading(content, lambda: noted.append(digest)) as found:
        assert found.read(0, 3) == b"con"
        assert noted == []
        monkeypatch.setattr(reading, "TOUCH_SECONDS", -1)
        assert found.read(3, 9) == b"tent"
        assert noted == [sha(b"content")]


@pytest.mark.parametrize("error", [OSError("away"), RegistryError("BLOB_UNKNOWN")])
def test_what_cannot_be_noted_is_read_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def note() -> None:
        raise error

    monkeypatch.setattr(reading, "TOUCH_SECONDS", -1)
    content = shop.registry.blobs.open("a", shop.push_blob("a", b"content"))  # type: ignore[arg-type]
    with Reading(content, note) as found:
        assert found.read(0, 9) == b"content"
