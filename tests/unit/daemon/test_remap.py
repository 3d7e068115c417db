"""--userns-remap: whose ids containers get."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sampan.daemon import remap
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.remap import make_default_user, remapped
from sampan.linux import subids
from sampan.spec.runtime import LinuxIDMapping
from sampan.spec.user_modes import IdMaps

MAP = [LinuxIDMapping(container_id=0, host_id=200_000, size=65536)]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of ranges, in which the user daemon (uid 1) has one."""
    for name, file in (("SUBUID", tmp_path / "subuid"), ("SUBGID", tmp_path / "subgid")):
        monkeypatch.setattr(subids, name, file)
        file.write_text("daemon:200000:65536\nbin:100000:65536\n")
    return tmp_path


@pytest.mark.parametrize("text", ["daemon", "1", "daemon:daemon", "1:1", "daemon:1"])
def test_a_user_is_a_name_or_an_id(text: str) -> None:
    assert remapped(text) == IdMaps(uids=MAP, gids=MAP)


def test_nothing_and_auto_need_no_user() -> None:
    assert remapped("") is None
    assert remapped("auto") == "auto"


def test_ranges_may_belong_to_a_number_and_follow_one_another(files: Path) -> None:
    (files / "subuid").write_text("1:300000:10\ndaemon:500000:5\n")
    maps = remapped("daemon")
    assert isinstance(maps, IdMaps)
    assert [(each.container_id, each.host_id, each.size) for each in maps.uids] == [
        (0, 300_000, 10),
        (10, 500_000, 5),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a:b:c", 'invalid User/Group specification in --userns-remap: "a:b:c"'),
        ("daemon:", "invalid User/Group specification"),
        ("nobody-of-that-name", "no user nobody-of-that-name"),
        ("4294967290", "uid 4294967290 has no entry in /etc/passwd"),
        ("99999999999999999999", "has no entry in /etc/passwd"),
        ("daemon:no-such-group", "no group no-such-group"),
        ("root", "root cannot be remapped to itself"),
        ("games", 'no subuid ranges found for user "games" in '),
        ("default", "no user dockremap"),
    ],
)
def test_what_cannot_be_is_said(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        remapped(text)
    assert sentence in str(refused.value)


def test_ranges_that_overlap_are_refused(files: Path) -> None:
    (files / "subgid").write_text("daemon:200000:65536\ndaemon:200005:1\n")
    with pytest.raises(UsageError, match="overlap"):
        remapped("daemon")


def test_the_default_user_is_made_with_ids_that_nobody_has() -> None:
    ran: list[Sequence[str]] = []
    make_default_user("default", ran.append)
    assert [command[0] for command in ran] == ["useradd", "usermod", "usermod"]
    assert ran[1] == ["usermod", "--add-subuids", "265536-331071", "dockremap"]


def test_a_default_user_that_has_ids_stays(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remap, "DEFAULT_USER", "daemon")
    ran: list[Sequence[str]] = []
    make_default_user("default", ran.append)
    make_default_user("games", ran.append)
    assert ran == []
    assert remapped("default") == IdMaps(uids=MAP, gids=MAP)


def test_a_machine_without_ids_left_is_told(files: Path) -> None:
    (files / "subuid").write_text("bin:0:2147483647\n")
    with pytest.raises(UsageError, match="no 65536 ids are free"):
        make_default_user("default", lambda _: None)


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(UsageError, match="cannot make the user dockremap"):
        remap._run(["useradd", "--no-such-option"])
