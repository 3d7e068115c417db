"""Options of a tmpfs."""

from __future__ import annotations

import pytest

from sampan.engine.oci import tmpfs_options
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import TmpfsOptions


def test_options_replace_the_defaults_that_they_contradict() -> None:
    assert tmpfs_options.merged(["exec", "size=1m", "ro"]) == [
        *("nosuid", "nodev", "exec", "size=1m", "ro")
    ]
    with pytest.raises(InvalidArgument, match="invalid tmpfs option"):
        tmpfs_options.merged(["loud"])


def test_a_mount_has_its_options_as_numbers() -> None:
    options = TmpfsOptions(size_bytes=4096, mode=0o1770, options=[["exec"]])
    assert tmpfs_options.options_of(options, writable=False) == [
        *("nosuid", "nodev", "ro", "mode=1770", "size=4096", "exec")
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [([["suid"]], "invalid option: suid"), ([["exec", "1", "2"]], "invalid option array length")],
)
def test_other_options_of_a_mount_are_refused(options: list[list[str]], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        tmpfs_options.options_of(TmpfsOptions(options=options), writable=True)
