"""The words of mount(8)."""

from __future__ import annotations

import pytest

from sampan.linux import mounts as m
from sampan.linux.mount_words import compile_words


@pytest.mark.parametrize(
    ("options", "flags", "data"),
    [
        ([], 0, []),
        (["ro", "nosuid"], m.MS_RDONLY | m.MS_NOSUID, []),
        (["ro", "rw"], 0, []),
        (["rbind", "ro"], m.MS_BIND | m.MS_REC | m.MS_RDONLY, []),
        (["size=1m", "noatime", "uid=5"], m.MS_NOATIME, ["size=1m", "uid=5"]),
        (["defaults", "_netdev", "nofail", "", "vers=4"], 0, ["vers=4"]),
    ],
)
def test_words_become_flags_and_data(options: list[str], flags: int, data: list[str]) -> None:
    words = compile_words(options)
    assert (words.flags, words.data, words.propagation) == (flags, data, [])


def test_propagation_is_a_call_of_its_own() -> None:
    words = compile_words(["bind", "rslave", "unbindable"])
    assert words.flags == m.MS_BIND
    assert words.propagation == [m.MS_SLAVE | m.MS_REC, m.MS_UNBINDABLE]
