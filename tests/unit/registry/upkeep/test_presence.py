"""A registry knows whether it is alone on a storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.registry.drivers.inmemory import InMemoryDriver
from sampan.registry.upkeep import presence
from sampan.registry.upkeep.presence import Presence, own_name


def test_those_who_live_are_known_to_each_other() -> None:
    driver = InMemoryDriver()
    with Presence(driver, "first") as first:
        first.demand_alone()
        with Presence(driver, "second") as second:
            assert first.others() == [second.name]
            with pytest.raises(OSError, match=second.name):
                first.demand_alone()
        first.demand_alone()
    assert driver.list(presence.FOLDER) == []


def test_those_who_were_killed_count_as_dead_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = InMemoryDriver()
    driver.write([(f"{presence.FOLDER}/killed", b"")])
    with Presence(driver, "me") as found:
        assert found.others() == ["killed"]
        monkeypatch.setattr(presence, "DEAD_SECONDS", -1.0)
        assert found.others() == []
        assert driver.list(presence.FOLDER) == [found.name]


def test_a_name_is_kept(tmp_path: Path) -> None:
    kept = own_name(tmp_path / "name")
    assert own_name(tmp_path / "name") == kept
    (tmp_path / "name").write_text("../../docker")
    assert own_name(tmp_path / "name") not in (kept, "../../docker")


def test_a_beat_that_fails_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = InMemoryDriver()
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.001)
    with Presence(driver, "me") as found:
        with monkeypatch.context() as patched:
            patched.setattr(found, "_beat", _fail)
            while "not told of this one" not in caplog.text:
                pass
    assert driver.list(presence.FOLDER) == []


def _fail() -> None:
    raise OSError("away")
