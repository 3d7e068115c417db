from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.engine.oci.devices import list_devices, parse_rules
from sampan.errors import InvalidArgument


def test_a_folder_of_devices_is_searched(tmp_path: os.PathLike[str]) -> None:
    found = {node.path for node in list_devices("/dev", "/inside")}
    assert "/inside/null" in found
    assert not list_devices(str(tmp_path), "/inside")


def test_no_folder_keeps_the_engine_searching(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").touch()
    with pytest.raises(InvalidArgument, match="it has more than 7 files"):
        list_devices(str(tmp_path), "/inside", at_most=7)
    assert not list_devices(str(tmp_path), "/inside", at_most=10)


def test_device_rules_have_docker_s_form() -> None:
    (rule,) = parse_rules(["c 10:* rm"])
    assert (rule.type, rule.major, rule.minor, rule.access) == ("c", 10, None, "rm")
    for wrong in ("", "c 10 rw", "d 1:2 rw", "c 1:2 x", "c -1:2 r", "c 1:2 rwmr"):
        with pytest.raises(InvalidArgument, match="invalid device cgroup rule format"):
            parse_rules([wrong])
