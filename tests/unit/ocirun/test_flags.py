"""The command line of runc and crun."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.ocirun.flags import flag, parse, usage

FLAGS = (
    flag("--bundle -b", "the bundle", "DIR"),
    flag("--detach -d", "detach"),
    flag("--env -e", "environment", "NAME=VALUE", is_list=True),
)


@pytest.mark.parametrize(
    "words",
    [
        ["--bundle", "x"],
        ["--bundle=x"],
        ["-b", "x"],
        ["-bx"],
        ["-b=x"],
        ["-bundle", "x"],
        ["-bundle=x"],
    ],
)
def test_a_value_is_given_in_every_spelling(words: list[str]) -> None:
    given = parse(FLAGS, [*words, "id"])
    assert (given.get("bundle"), given.operands) == ("x", ["id"])


def test_options_may_follow_operands() -> None:
    assert parse(FLAGS, ["id", "-d"]).has("detach")


def test_the_operands_of_exec_end_the_options() -> None:
    given = parse(FLAGS, ["-d", "id", "ls", "-d", "--", "x"], interspersed=False)
    assert given.operands == ["id", "ls", "-d", "--", "x"]


def test_two_dashes_end_the_options() -> None:
    assert parse(FLAGS, ["--", "-d"]).operands == ["-d"]


def test_a_dash_is_an_operand() -> None:
    assert parse(FLAGS, ["-b", "-", "-"]).operands == ["-"]


@pytest.mark.parametrize(
    ("word", "expected"), [("-d", True), ("--detach=false", False), ("-d=true", True)]
)
def test_a_switch_may_be_set_and_unset(word: str, expected: bool) -> None:
    assert parse(FLAGS, [word]).has("detach") is expected


def test_the_last_value_counts_and_lists_collect() -> None:
    given = parse(FLAGS, ["-b", "1", "-b", "2", "-e", "A=1", "--env=B=2"])
    assert given.get("bundle") == "2"
    assert given.list("env") == ["A=1", "B=2"]
    assert given.list("bundle") == ["2"]


@pytest.mark.parametrize("words", [["--nix"], ["-x"], ["-dx"], ["--bundl", "x"], ["--bundle"]])
def test_what_is_no_option_is_refused(words: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="flag"):
        parse(FLAGS, words)


def test_a_number_must_be_one() -> None:
    given = parse(FLAGS, ["-b", "12", "-e", "x"])
    assert given.number("bundle") == 12
    assert given.number("missing", 5) == 5
    with pytest.raises(InvalidArgument, match='invalid value "x"'):
        given.number("env")


@given(st.lists(st.text()))
def test_no_input_raises_anything_but_invalid_argument(words: list[str]) -> None:
    try:
        parse(FLAGS, words)
    except InvalidArgument:
        return


def test_help_is_aligned() -> None:
    assert usage(FLAGS[:2]) == "   --bundle, -b DIR  the bundle\n   --detach, -d      detach\n"
