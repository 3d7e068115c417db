"""The rules of cp about trailing slashes, dots and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.cli.copying import paths
from sampan.cli.copying.paths import Place
from sampan.cli.invocation import Exit

FILE = Place("/src/f", True, False)
FOLDER = Place("/src/d", True, True)


def test_a_dot_at_the_end_means_the_content() -> None:
    assert paths.split("/a/b/.") == ("/a/b", ".")
    assert paths.split("/a/b/") == ("/a", "b")
    assert paths.is_current("./")
    assert not paths.is_current("/a/b")


def test_making_a_path_absolute_keeps_its_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert paths.absolute("usr/.") == "/usr/."
    assert paths.absolute("usr/") == "/usr/"
    assert paths.absolute("../usr") == "/usr"


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (FILE, Place("/dst/ed", True, True), ("/dst/ed", "", "")),
        (FILE, Place("/dst/ef", True, False), ("/dst", "f", "ef")),
        (FILE, Place("/dst/new", False, False), ("/dst", "f", "new")),
        (FOLDER, Place("/dst/new", False, False), ("/dst", "d", "new")),
        (FOLDER, Place("/dst/new/", False, False), ("/dst", "d", "new")),
        (Place("/src/d/.", True, True), Place("/dst/new", False, False), ("/dst", ".", "new")),
    ],
)
def test_where_a_copy_goes(
    source: Place, destination: Place, expected: tuple[str, str, str]
) -> None:
    assert paths.target_of(source, destination) == expected


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        (FOLDER, Place("/dst/ef", True, False), "cannot copy directory"),
        (FILE, Place("/dst/new/", False, False), "no such directory"),
    ],
)
def test_what_cannot_be_copied(source: Place, destination: Place, message: str) -> None:
    with pytest.raises(Exit, match=message):
        paths.target_of(source, destination)


def test_only_the_top_part_of_a_name_is_replaced() -> None:
    assert paths.renamed("d/d/x", "d", "new") == "new/d/x"
    assert paths.renamed("./x", ".", "new") == "new/x"
    assert paths.renamed("d2/x", "d", "new") == "d2/x"
    assert paths.renamed("d/", "d", "new") == "new"
    assert paths.renamed("x", "", "") == "x"


def test_a_link_is_copied_itself_unless_it_is_to_be_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    plain = paths.local_source(str(tmp_path / "link"), follow=False)
    assert (Path(plain.path).name, plain.is_directory) == ("link", False)
    followed = paths.local_source(str(tmp_path / "link"), follow=True)
    assert (Path(followed.path).name, followed.name) == ("d", "link")


def test_the_parent_of_a_destination_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(Exit, match="no such file or directory"):
        paths.local_destination(str(tmp_path / "no/x"))
    with pytest.raises(Exit, match="does not exist"):
        paths.check_output(str(tmp_path / "no/x"))
