"""Tables of what BuildKit makes of Dockerfiles, of words with variables, and of ignore files.

The cases are ours; the expected results in `agreement/` were read off BuildKit's own parser,
word expansion and pattern matcher (0.31). Where we mean to differ, the difference is listed here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.contexts.ignore import Ignore, read_ignore
from sampan.build.dockerfiles.shell import Shell
from sampan.errors import InvalidArgument
from tests.checks import checked
from tests.dockerfiles import described

FOLDER = Path(__file__).parent / "agreement"
NO_COMMAND = "RUN requires at least one argument"
NO_TARGET = "target required for mount type '{}'"
# Dockerfiles that we refuse where BuildKit starts a step that can only fail, or mounts something at
# the working directory; and faults that it tells without their line, or with that before.
STRICTER: dict[str, str] = {
    "# only": "file with no instructions",
    "\n\n": "file with no instructions",
    "FROM a\nRUN []": f"2: {NO_COMMAND}",
    "FROM a\nRUN": f"2: {NO_COMMAND}",
    'FROM a\nRUN [""]': f"2: {NO_COMMAND}",
    "FROM a\nRUN --": f"2: {NO_COMMAND}",
    "FROM a\nRUN \\": f"2: {NO_COMMAND}",
    "# escape=x\nFROM a": "1: invalid escape token 'x' does not match ` or \\",
    "# escape=` x\nFROM a": "1: invalid escape token '` x' does not match ` or \\",
    "# escape=`\n# escape=`\nFROM a": "2: only one escape parser directive can be used",
    "# syntax=a\n# syntax=b\nFROM a": "2: only one syntax parser directive can be used",
    "# check=a\n# check=b\nFROM a": "2: only one check parser directive can be used",
    "FROM a\nRUN --mount=type=bind x": NO_TARGET.format("bind"),
    "FROM a\nRUN --mount= x": NO_TARGET.format("bind"),
    "FROM a\nRUN --mount=type=cache x": NO_TARGET.format("cache"),
    "FROM a\nRUN --mount=type=cache,id=x y": NO_TARGET.format("cache"),
    "FROM a\nRUN --mount=type=tmpfs y": NO_TARGET.format("tmpfs"),
}  # fmt: skip
CLEARER = {"${a": "failed to process \"${a\": syntax error: missing '}'"}
VARIABLES = {
    "a": "1", "empty": "", "c": "foo bar", "d": "a*b/c", "v": "xx.yy.zz", "p": "/usr/lib/x.tar.gz",
    "q": '"q"', "back": "ab\\cd}", "é": "accent",
}  # fmt: skip
PATHS = [
    *("*", ".x", "README.md", "[a]", "a", "a b", "a*", "a/.x", "a/README.md", "a/ab", "a/b"),
    *("a/b/c", "a/b/x.go", "a/x.go", "ab", "b", "b/a", "docs/a/b.md", "node_modules"),
    *("node_modules/x", "sub/node_modules/x", "x.go", "é"),
]


def table(name: str) -> list[Any]:
    cases: list[Any] = json.loads((FOLDER / name).read_text())
    return cases


@pytest.mark.parametrize(("text", "expected"), table("dockerfiles.json"))
def test_a_dockerfile_means_what_it_means_to_buildkit(text: str, expected: Any) -> None:
    assert described(text) == STRICTER.get(text, expected)


@pytest.mark.parametrize(("given", "expected"), table("words.json"))
def test_a_word_becomes_what_it_becomes_in_buildkit(given: Any, expected: Any) -> None:
    text, options = given
    shell = Shell(**options)
    if isinstance(expected, str):
        with pytest.raises(InvalidArgument) as raised:
            shell.expand(text, VARIABLES)
        assert str(raised.value) == CLEARER.get(text, expected)
        return
    found = shell.expand(text, VARIABLES)
    assert {"text": found.text, "unset": sorted(found.unset)} == {
        key: expected[key] for key in ("text", "unset")
    }
    if "words" in expected:
        assert found.words == expected["words"]


@pytest.mark.parametrize(("text", "expected"), table("ignore_files.json"))
def test_an_ignore_file_has_the_patterns_that_buildkit_reads(text: str, expected: Any) -> None:
    assert read_ignore(text.encode()) == expected


@pytest.mark.parametrize(("patterns", "expected"), table("patterns.json"))
def test_patterns_mean_the_paths_that_they_mean_to_buildkit(
    patterns: list[str], expected: Any
) -> None:
    def hidden() -> list[str]:
        ignore = Ignore(patterns)
        return [path for path in PATHS if ignore.hides(path)]

    if isinstance(expected, str):
        with pytest.raises(InvalidArgument) as raised:
            hidden()
        assert str(raised.value) == expected
        return
    # BuildKit makes a regular expression of it, in which the star is still one.
    assert hidden() == (["*"] if patterns == ["[*]"] else expected)


@pytest.mark.parametrize(("text", "expected"), table("checks.json"))
def test_checks_find_what_those_of_buildkit_find(text: str, expected: Any) -> None:
    assert checked(text) == expected


def test_every_rule_of_buildkit_has_a_case() -> None:
    told = [case for case in table("checks.json") if not isinstance(case[1], str)]
    rules = {rule for _, found in told for rule, _, _ in found}
    assert rules == set(
        "ConsistentInstructionCasing DuplicateStageName ExposeInvalidFormat ExposeProtoCasing"
        " FromAsCasing FromPlatformFlagConstDisallowed"
        " InvalidDefinitionDescription JSONArgsRecommended LegacyKeyValueFormat"
        " MaintainerDeprecated MultipleInstructionsDisallowed NoEmptyContinuation"
        " RedundantTargetPlatform ReservedStageName SecretsUsedInArgOrEnv StageNameCasing"
        " UndefinedArgInFrom UndefinedVar WorkdirRelativePath".split()
    )  # CopyIgnoredFile and InvalidDefaultArgInFrom need more than a Dockerfile: see below


@pytest.mark.parametrize(
    ("text", "rule", "message"),
    [
        ("FROM ${A:-a}${B}", "UndefinedArgInFrom", "FROM argument 'B' is not declared"),
        ("ARG TAG=1\nFROM a:$TGA", "UndefinedArgInFrom",
         "FROM argument 'TGA' is not declared (did you mean TAG?)"),
        ("ARG TAG\nFROM a:$TAG", "InvalidDefaultArgInFrom",
         "Default value for ARG a:$TAG results in empty or invalid base image name"),
    ],
)  # fmt: skip
def test_arguments_of_from_are_declared_and_have_values(text: str, rule: str, message: str) -> None:
    assert [rule, message] in [one[:2] for one in checked(text)]


@pytest.mark.parametrize(
    ("line", "ignored", "message"),
    [
        ("COPY a /", ["a"], 'Attempting to Copy file "a" that is excluded by .dockerignore'),
        ("ADD a/b /", ["a"], 'Attempting to Add file "a/b" that is excluded by .dockerignore'),
        ("COPY ./x.md b /", ["*.md"],
         'Attempting to Copy file "x.md" that is excluded by .dockerignore'),
        ("COPY a /", ["*", "!a"], ""),
        ("COPY . /", ["a"], ""),
        ("COPY --from=x a /", ["a"], ""),
        ("COPY b /", ["a"], ""),
        ("COPY $a /", ["a"], ""),
    ],
)  # fmt: skip
def test_copies_of_what_is_ignored_are_told(line: str, ignored: list[str], message: str) -> None:
    found = checked(f"FROM a AS x\nENV a=a\nFROM x\n{line}", ignored)
    assert [one[1] for one in found if one[0] == "CopyIgnoredFile"] == [message] * bool(message)


# --- no input does anything but give a result or InvalidArgument ----------------------------


LINES = st.sampled_from(
    [
        *("FROM a", "FROM a AS b", "ARG a=1 b", "ENV a=b c='d'", "ENV a b", "RUN x", 'RUN ["a"]'),
        *(
            "RUN <<E",
            "RUN <<-E cat <<F",
            "COPY <<E f",
            "E",
            "F",
            "\tE",
            "# c",
            "",
            "\\",
            "COPY a b",
        ),
        *("ONBUILD RUN x", "HEALTHCHECK CMD x", "HEALTHCHECK --interval=1 CMD x", "LABEL a=b"),
        *("RUN --mount=type=cache,target=/a x", "COPY --from=b --chown=$c d e", "VOLUME []"),
    ]
)
ENDS = st.sampled_from(["", " ", "\\", " \\", "\\\\", "`", "\r", " # x", '"', "'"])
TEXTS = st.lists(st.tuples(LINES | st.text(max_size=20), ENDS), max_size=8).map(
    lambda lines: "\n".join(line + end for line, end in lines)
)


@given(st.sampled_from(["", "# escape=`\n", "# check=skip=all\n", "\ufeff"]), TEXTS)
def test_any_text_is_instructions_or_a_fault_with_its_place(head: str, text: str) -> None:
    found = described(head + text)
    if isinstance(found, str):
        places = "[0-9]+: |file with no instructions|dockerfile contains no stages|.*mount|invalid"
        assert re.match(places, found), found
        return
    last = 0
    for it in found:
        first, end = it["lines"]
        assert last < first <= end
        last = end


PIECES = st.sampled_from(
    [
        *("$a", "${", "}", "${c", ":-", ":+", ":?", "-", "#", "##", "%", "%%", "/", "//", "*", "?"),
        *("\\", "`", '"', "'", " ", "<<", "$", "${c#", "${c/", "${empty:-", "${unset:+", "x", "é"),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.booleans(), st.booleans(), st.booleans())
def test_any_word_is_expanded_or_refused(text: str, one: bool, other: bool, keep: bool) -> None:
    shell = Shell(raw_quotes=one, raw_escapes=other, keep_unset=keep)
    try:
        found = shell.expand(text, VARIABLES)
    except InvalidArgument as error:
        assert str(error).startswith("failed to process ")  # noqa: PT017 - or it is not refused
        return
    assert found.unset <= found.used


@given(st.text(alphabet="ab*?/[]^-!\\. #\r\n", max_size=40))
def test_any_ignore_file_has_patterns_that_match_or_are_refused(text: str) -> None:
    try:
        ignore = Ignore(read_ignore(text.encode()))
        hidden = [ignore.hides(path) for path in PATHS]
    except InvalidArgument as error:
        assert "pattern" in str(error)  # noqa: PT017 - or it is not refused
        return
    assert hidden == [ignore.hides(path) for path in PATHS]
