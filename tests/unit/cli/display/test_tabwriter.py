"""Tables are laid out as Go's tabwriter lays them out."""

from __future__ import annotations

from sampan.cli.display.tabwriter import aligned, display_width, ellipsis


def test_a_column_is_as_wide_as_its_widest_cell_and_three_spaces() -> None:
    assert aligned("ID\tNAME\nabcdefghijkl\tx\n") == "ID             NAME\nabcdefghijkl   x\n"


def test_a_column_has_at_least_ten_characters() -> None:
    assert aligned("A\tB\n") == "A         B\n"


def test_a_line_without_the_cell_ends_a_column() -> None:
    text = aligned("long long cell\tx\nno tab\na\tb\n")
    assert text == "long long cell   x\nno tab\na         b\n"


def test_an_empty_cell_keeps_its_place() -> None:
    assert aligned("a\t\tc\n") == "a                   c\n"


def test_wide_characters_take_two_columns() -> None:
    assert display_width("舢板") == 4
    assert aligned("舢板\tx\n") == "舢板      x\n"


def test_the_ellipsis_is_the_last_column() -> None:
    assert ellipsis("short", 20) == "short"
    assert ellipsis("/bin/sh -c 'while true'", 20) == "/bin/sh -c 'while t…"
    assert ellipsis("舢板舢板", 5) == "舢板…"
