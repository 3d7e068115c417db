"""Words of a Dockerfile. The rules are those of Docker's documentation and of BuildKit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.dockerfiles.shell import Shell
from sampan.errors import InvalidArgument

VARIABLES = {
    "NAME": "value",
    "EMPTY": "",
    "PATHS": "/usr/local/lib/libz.so.1.2",
    "BLANKS": "one two",
    "STAR": "a*b",
}

CASES = [
    # plain text, quotes and escapes
    ("", ""),
    ("plain", "plain"),
    ("'single'", "single"),
    ('"double"', "double"),
    ("mixed' 'quotes\" \"", "mixed quotes "),
    (r"a\ b", "a b"),
    (r"\\", "\\"),
    (r"a\b", "ab"),
    ("end\\", "end"),
    (r'"a\"b"', 'a"b'),
    (r'"a\b"', r"a\b"),
    (r'"a\\b"', r"a\b"),
    (r"'a\b'", r"a\b"),
    # variables
    ("$NAME", "value"),
    ("${NAME}", "value"),
    ("a${NAME}b", "avalueb"),
    ("$NAME.$NAME", "value.value"),
    ("$NOTHING", ""),
    ("${NOTHING}", ""),
    (r"\$NAME", "$NAME"),
    (r"\${NAME}", "${NAME}"),
    ("'$NAME'", "$NAME"),
    ('"$NAME"', "value"),
    (r'"\$NAME"', "$NAME"),
    ("$", "$"),
    ("$ x", "$ x"),
    ("a$", "a$"),
    ("$1a", "a"),
    ("$12", ""),
    ("$@x", "x"),
    ("$-x", "x"),
    ("$$", ""),
    ("${NAME}}", "value}"),
    # defaults
    ("${NAME:-other}", "value"),
    ("${EMPTY:-other}", "other"),
    ("${NOTHING:-other}", "other"),
    ("${NAME-other}", "value"),
    ("${EMPTY-other}", ""),
    ("${NOTHING-other}", "other"),
    ("${NOTHING:-}", ""),
    ("${NOTHING:-$NAME}", "value"),
    ("${NOTHING:-${EMPTY:-${NAME}}}", "value"),
    ("${NOTHING:-'a b'}", "a b"),
    (r"${NOTHING:-a\}b}", "a}b"),
    # alternatives
    ("${NAME:+other}", "other"),
    ("${EMPTY:+other}", ""),
    ("${NOTHING:+other}", ""),
    ("${NAME+other}", "other"),
    ("${EMPTY+other}", "other"),
    ("${NOTHING+other}", ""),
    # those that must be set
    ("${NAME?}", "value"),
    ("${NAME:?}", "value"),
    ("${EMPTY?}", ""),
    # patterns at the beginning and at the end
    ("${PATHS#/}", "usr/local/lib/libz.so.1.2"),
    ("${PATHS#/*/}", "local/lib/libz.so.1.2"),
    ("${PATHS##*/}", "libz.so.1.2"),
    ("${PATHS##*}", ""),
    ("${PATHS#*}", "/usr/local/lib/libz.so.1.2"),
    ("${PATHS%.*}", "/usr/local/lib/libz.so.1"),
    ("${PATHS%%.*}", "/usr/local/lib/libz"),
    ("${PATHS%/*}", "/usr/local/lib"),
    ("${PATHS%.?}", "/usr/local/lib/libz.so.1"),
    ("${PATHS%nothing}", "/usr/local/lib/libz.so.1.2"),
    (r"${STAR#a\*}", "b"),
    (r"${STAR#x\*}", "a*b"),
    ("${NOTHING#a}", ""),
    ("${NAME#$NAME}", ""),
    # replacements
    ("${PATHS/lib/LIB}", "/usr/local/LIB/libz.so.1.2"),
    ("${PATHS//lib/LIB}", "/usr/local/LIB/LIBz.so.1.2"),
    (r"${PATHS//\//_}", "_usr_local_lib_libz.so.1.2"),
    ("${PATHS/nothing/x}", "/usr/local/lib/libz.so.1.2"),
    ("${PATHS/l*l/x}", "/usr/xibz.so.1.2"),
    ("${PATHS//?i/x}", "/usr/local/xb/xbz.so.1.2"),
    ("${NAME//[a]/x}", "value"),
    ("${NAME/a/}", "vlue"),
    ("${NAME/a/$EMPTY-}", "v-lue"),
    ("${NOTHING/a/b}", ""),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_word_is_expanded_as_docker_does(text: str, expected: str) -> None:
    assert Shell().word(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'", "unexpected end of statement while looking for matching single-quote"),
        ('a"b', "unexpected end of statement while looking for matching double-quote"),
        ("${", "syntax error: missing '}'"),
        ("${NAME", "syntax error: missing '}'"),
        ("${NAME:-a", "syntax error: missing '}'"),
        ("${NAME/a", "syntax error: missing '/' in ${}"),
        ("${NAME/a/b", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:-a}", "syntax error: bad substitution"),
        ("${NAME^}", "unsupported modifier (^) in substitution"),
        ("${NAME:=a}", "unsupported modifier (:=) in substitution"),
        ("${NAME:#a}", "unsupported modifier (:#) in substitution"),
        ("${NAME:%a}", "unsupported modifier (:%) in substitution"),
        ("${NOTHING?}", "NOTHING: is not allowed to be unset"),
        ("${NOTHING:?}", "NOTHING: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NOTHING?give one}", "NOTHING: give one"),
        ("${NOTHING:?$NAME}", "NOTHING: value"),
        ("${A:-" * 200 + "}" * 200, "syntax error: substitutions are nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_word_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Shell().word(text, VARIABLES)
    assert str(raised.value) == f"failed to process {json.dumps(text)}: {message}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a  b\t", ["a", "b"]),
        ("$BLANKS", ["one", "two"]),
        ('"$BLANKS"', ["one two"]),
        ("x${BLANKS}y", ["xone", "twoy"]),
        ("'a b' c", ["a b", "c"]),
        (r"a\ b c", ["a b", "c"]),
        ("''", []),
        ("$EMPTY", []),
        ("${NOTHING:-a b}", ["a", "b"]),
        ("8080 $NAME/tcp", ["8080", "value/tcp"]),
    ],
)
def test_blanks_outside_of_quotes_divide_words(text: str, words: list[str]) -> None:
    assert Shell().expand(text, VARIABLES).words == words


def test_another_letter_may_be_the_escape() -> None:
    assert Shell("`").word(r"C:\dir`$NAME\$NAME", VARIABLES) == "C:\\dir$NAME\\value"


def test_quotes_and_escapes_can_be_left_in_place() -> None:
    raw = Shell(raw_quotes=True, raw_escapes=True)
    assert raw.word("'a' \"$NAME\" \\$NAME", VARIABLES) == "'a' \"value\" \\$NAME"


@pytest.mark.parametrize("text", ["$NOTHING", "${NOTHING}", "${NOTHING:-a}", "${NOTHING//a/b}"])
def test_what_is_not_set_can_be_left_as_it_is(text: str) -> None:
    assert Shell(keep_unset=True).word(text, VARIABLES) == text


def test_it_is_told_which_variables_were_used() -> None:
    expanded = Shell().expand("$NAME ${NOTHING:-$EMPTY}", VARIABLES)
    assert expanded.used == {"NAME", "NOTHING", "EMPTY"}
    assert expanded.unset == {"NOTHING"}


@given(st.text(alphabet="ab $\\{}'\":-+?#%/*\n`", max_size=60))
def test_no_word_raises_anything_but_invalid_argument(text: str) -> None:
    try:
        expanded = Shell().expand(text, {"a": "b", "ab": "/x/y"})
    except InvalidArgument:
        return
    assert "".join("".join(expanded.words).split()) == "".join(expanded.text.split())


@given(st.text(alphabet="abcxyz019_.-/", max_size=40))
def test_what_needs_no_expansion_stays(text: str) -> None:
    assert Shell().word(text, {}) == text


def test_many_wildcards_cost_no_time() -> None:
    value = "a" * 10_000
    pattern = "*a" * 30 + "b"
    assert Shell().word(f"${{V##{pattern}}}", {"V": value}) == value


@pytest.mark.parametrize(
    "text", ["$V" * 12, "${V}" * 12, "${V//x/" + "$V" * 12 + "}", "${W//?/$V}"]
)
def test_values_cannot_make_a_text_grow_without_end(text: str) -> None:
    with pytest.raises(InvalidArgument, match="the values of variables make an instruction"):
        Shell().word(text, {"V": "x" * 100_000, "W": "x" * 20})


@pytest.mark.parametrize(
    "text", ["${V//*a*b/x}", "${V/" + "?" * 200 + "b/x}", "${V##*" + "a" * 60_000 + "}"]
)
def test_what_would_take_long_to_search_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="too long to be searched"):
        Shell().word(text, {"V": "a" * 20_000})


def test_plain_texts_are_replaced_in_values_of_any_length() -> None:
    assert Shell().word("${V//ab/c}", {"V": "ab" * 100_000}) == "c" * 100_000
    assert Shell().word("${V/b/c}", {"V": "ab" * 100_000}) == "ac" + "ab" * 99_999
