"""Addresses of submodules, and what is left of fetches."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from sampan.engine.repositories import module_url, sweep
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git/", "./c", "https://h/a/b.git/c"),
        ("https://h/a/b.git", "../../x/c.git", "https://h/x/c.git"),
        ("git@h:a/b", "../c", "git@h:a/c"),
        ("git@h:b", "../c", "git@h:c"),
        ("https://h/b", "ssh://other/c", "ssh://other/c"),
        ("https://h/b", "../../c", ""),
        ("https://h/b", "../../../../c", ""),
        ("https://h/b", "-c", ""),
        ("https://h/b", "ssh://a\n", ""),
    ],
)
def test_the_address_of_a_submodule_may_be_relative(parent: str, url: str, expected: str) -> None:
    if expected:
        assert module_url(parent, url) == expected
        return
    with pytest.raises(InvalidArgument, match="invalid submodule"):
        module_url(parent, url)


def test_what_killed_engines_have_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("sampan-git-left", "sampan-git-used", "sampan-git-young", "others"):
        (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / "sampan-git-link").symlink_to(tmp_path / "others")
    for name in ("sampan-git-left", "sampan-git-used", "others"):
        os.utime(tmp_path / name, (0, 0))
    used = os.open(tmp_path / "sampan-git-used", os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_SH)
    sweep()
    there = {"sampan-git-used", "sampan-git-young", "sampan-git-link", "others"}
    assert {path.name for path in tmp_path.iterdir()} == there
    assert (tmp_path / "others" / "1").is_dir()
    os.close(used)
    sweep()
    assert not (tmp_path / "sampan-git-used").exists()
