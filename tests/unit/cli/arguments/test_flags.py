"""Command lines are read as pflag reads them."""

from __future__ import annotations

import pytest

from sampan.cli.arguments.flags import HelpWanted, UsageError, flag, flags_of, hidden, parse


class Options:
    interactive: bool = flag("i", "")
    tty: bool = flag("t", "")
    rm: bool = flag("", "")
    name: str = flag("", "", default="")
    tail: str = flag("n", "", default="all")
    env: list[str] = flag("e", "", kind="list")
    limit: int = flag("l", "", kind="int", default=-1)
    memory: int = flag("m", "", kind="bytes")
    proxy: bool = flag("", "", default=True)
    net = hidden("name", kind="string")
    old = hidden("", "use something else", kind="bool")


def options(*arguments: str, interspersed: bool = True) -> Options:
    parsed: Options = parse(Options, arguments, interspersed).options
    return parsed


def test_flags_may_be_joined_and_take_values_in_every_spelling() -> None:
    found = options("-it", "-n5", "-e", "-x", "-e=A=1", "--name", "-dash", "--limit=-3", "-m1g")
    assert (found.interactive, found.tty, found.tail) == (True, True, "5")
    assert found.env == ["-x", "A=1"]
    assert (found.name, found.limit, found.memory) == ("-dash", -3, 1 << 30)


def test_a_bool_takes_a_value_only_behind_an_equals_sign() -> None:
    parsed = parse(Options, ["--rm=false", "--proxy=f", "-it=false", "--tty", "x"])
    assert (parsed.options.rm, parsed.options.proxy) == (False, False)
    assert (parsed.options.interactive, parsed.options.tty) == (True, True)
    assert parsed.operands == ["x"]


def test_flags_end_at_the_first_operand_if_they_are_not_interspersed() -> None:
    parsed = parse(Options, ["-i", "ubuntu", "ls", "-t", "--", "x"], interspersed=False)
    assert parsed.operands == ["ubuntu", "ls", "-t", "--", "x"]
    assert parsed.options.tty is False


def test_two_dashes_end_the_flags() -> None:
    assert parse(Options, ["a", "--", "-t", "--"]).operands == ["a", "-t", "--"]
    assert parse(Options, ["-"]).operands == ["-"]


def test_defaults_are_not_shared_between_command_lines() -> None:
    options("-e", "a")
    assert options().env == []
    assert options().limit == -1


def test_another_spelling_sets_the_same_option() -> None:
    parsed = parse(Options, ["--net", "host", "--old"])
    assert parsed.options.name == "host"
    assert parsed.changed == {"net", "old"}
    assert parsed.warnings == ["Flag --old has been deprecated, use something else"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--x"], "unknown flag: --x"),
        (["--x=1"], "unknown flag: --x"),
        (["-iz"], "unknown shorthand flag: 'z' in -z"),
        (["-zi"], "unknown shorthand flag: 'z' in -zi"),
        (["--name"], "flag needs an argument: --name"),
        (["-in"], "flag needs an argument: 'n' in -n"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (
            ["--rm=foo"],
            'invalid argument "foo" for "--rm" flag: '
            'strconv.ParseBool: parsing "foo": invalid syntax',
        ),
        (
            ["-m", "foo"],
            'invalid argument "foo" for "-m, --memory" flag: invalid size: \'foo\'',
        ),
        (
            ["-lx"],
            'invalid argument "x" for "-l, --limit" flag: '
            'strconv.ParseInt: parsing "x": invalid syntax',
        ),
    ],
)
def test_mistakes_are_told_in_the_words_of_pflag(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(Options, arguments)
    assert str(raised.value) == message


def test_help_is_wanted_by_its_long_and_its_deprecated_short_flag() -> None:
    with pytest.raises(HelpWanted):
        parse(Options, ["--help"])
    with pytest.raises(HelpWanted):
        parse(Options, ["-h"])
    with pytest.raises(UsageError, match="unknown shorthand flag: 'h' in -h"):
        parse(Options, ["-h"], own_h=True)


def test_inherited_flags_belong_to_a_command() -> None:
    class More(Options):
        extra: bool = flag("x", "")

    assert {"extra", "tty"} <= flags_of(More).keys()
    assert parse(More, ["-xt"]).options.tty is True
