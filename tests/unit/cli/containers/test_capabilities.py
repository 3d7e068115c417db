"""Capabilities as the docker CLI sends them."""

from __future__ import annotations

import pytest

from sampan.cli.containers.capabilities import effective


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], ([], [])),
        (["net_admin", "CAP_CHOWN", "chown"], [], (["CAP_CHOWN", "CAP_NET_ADMIN"], [])),
        (["all", "kill"], ["sys_admin"], (["ALL"], ["CAP_SYS_ADMIN"])),
        (["kill"], ["ALL", "chown"], (["CAP_KILL"], ["ALL"])),
        (["kill"], ["cap_kill"], (["CAP_KILL"], [])),
        (["all"], ["ALL"], (["ALL"], [])),
        ([" kill ", ""], [], (["CAP_KILL"], [])),
    ],
)
def test_names_are_spelled_out_and_what_is_added_is_not_dropped(
    add: list[str], drop: list[str], expected: tuple[list[str], list[str]]
) -> None:
    assert effective(add, drop) == expected
