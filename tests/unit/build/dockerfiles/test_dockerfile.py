"""Dockerfiles as a whole: stages, their names, and every fault with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.dockerfiles.dockerfile import parse_dockerfile, parse_triggers
from sampan.build.instructions import model
from sampan.errors import InvalidArgument

INSTRUCTIONS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL"
    " STOPSIGNAL USER VOLUME WORKDIR"
).split()


def test_a_dockerfile_is_a_list_of_stages() -> None:
    text = b"ARG V=1\nFROM a AS One\nRUN x\nFROM --platform=linux/arm64 one\nCMD y\n"
    found = parse_dockerfile(text)
    assert [argument.variables for argument in found.arguments] == [[("V", "1")]]
    assert [stage.begin.image for stage in found.stages] == ["a", "one"]
    assert [stage.name for stage in found.stages] == ["one", "1"]
    assert found.stages[1].begin.platform == "linux/arm64"
    assert [len(stage.instructions) for stage in found.stages] == [1, 1]


def test_a_stage_is_found_by_its_name_and_by_its_number() -> None:
    found = parse_dockerfile(b"FROM a AS x\nFROM b AS X\nFROM c AS y")
    assert found.target("").number == 2
    assert found.target("x").number == 1
    assert found.target("Y").number == 2
    assert found.target("0").number == 0
    assert found.stage("x", before=1) is found.stages[0]
    assert found.stage("y", before=2) is None
    with pytest.raises(InvalidArgument, match="target stage z could not be found"):
        found.target("z")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("RUN x", 1, "no build stage in current context"),
        ("FROM", 1, "FROM requires either one or three arguments"),
        ("FROM a b", 1, "FROM requires either one or three arguments"),
        ("FROM a of b", 1, "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            1,
            'invalid name for build stage: "1x", name can\'t start with a number or contain'
            " symbols",
        ),
        ("FROM --other=x a", 1, "unknown flag: --other"),
        ("FROM --platfrom=x a", 1, "unknown flag: --platfrom (did you mean platform?)"),
        ("FROM a\nFOO", 2, "unknown instruction: FOO"),
        ("FROM a\nRUNN x", 2, "unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM a\n\n\nCOPY x", 4, "COPY requires at least two arguments"),
        ("FROM a\nCOPY", 2, "COPY requires at least two arguments"),
        ('FROM a\nADD ["x"]', 2, "ADD requires at least two arguments"),
        ("FROM a\nCOPY --from=x --from=y a b", 2, "duplicate flag specified: --from"),
        ("FROM a\nCOPY --link=maybe a b", 2, "expecting boolean value for flag --link, not: maybe"),
        ("FROM a\nCOPY --chown a b", 2, "missing a value on flag: --chown"),
        ("FROM a\nADD --from=x a b", 2, "unknown flag: --from"),
        ("FROM a\nRUN", 2, "RUN requires at least one argument"),
        ("FROM a\nRUN []", 2, "RUN requires at least one argument"),
        ("FROM a\nRUN --network=some x", 2, 'invalid network mode "some"'),
        ("FROM a\nRUN --security=none x", 2, 'security "none" is not valid'),
        ("FROM a\nCMD [1]", 2, "arrays must be comprised of strings only"),
        ("FROM a\nENV", 2, "ENV requires at least one argument"),
        ("FROM a\nENV a", 2, "ENV must have two arguments"),
        ("FROM a\nENV a=b c", 2, 'can\'t find = in "c"'),
        ("FROM a\nENV a=b =c", 2, "ENV names can not be blank"),
        ("FROM a\nLABEL =b", 2, "LABEL names can not be blank"),
        ("FROM a\nARG", 2, "ARG requires at least one argument"),
        ("FROM a\nARG =x", 2, "ARG names can not be blank"),
        ("FROM a\nEXPOSE", 2, "EXPOSE requires at least one argument"),
        ("FROM a\nUSER", 2, "USER requires exactly one argument"),
        ("FROM a\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
        ("FROM a\nSTOPSIGNAL", 2, "STOPSIGNAL requires exactly one argument"),
        ("FROM a\nMAINTAINER", 2, "MAINTAINER requires exactly one argument"),
        ("FROM a\nVOLUME", 2, "VOLUME requires at least one argument"),
        ('FROM a\nVOLUME ["", "a"]', 2, "VOLUME specified can not be an empty string"),
        ("FROM a\nSHELL", 2, "SHELL requires at least one argument"),
        ("FROM a\nSHELL []", 2, "SHELL requires at least one argument"),
        ("FROM a\nSHELL bash", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nHEALTHCHECK", 2, "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK TEST x", 2, 'Unknown type "TEST" in HEALTHCHECK (try CMD)'),
        ("FROM a\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", 2, "Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", 2, 'time: missing unit in duration "5"'),
        ("FROM a\nHEALTHCHECK --timeout=1us CMD x", 2, 'Interval "timeout" cannot be less'),
        ("FROM a\nHEALTHCHECK --retries=x CMD x", 2, 'parsing "x": invalid syntax'),
        ("FROM a\nONBUILD", 2, "ONBUILD requires at least one argument"),
        ("FROM a\nONBUILD FROM b", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, "Chaining ONBUILD via `ONBUILD ONBUILD`"),
        ("FROM a\nRUN <<EOF\nx\n", 2, "unterminated heredoc"),
        ("# escape=x\nFROM a", 1, "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive can be used"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_dockerfile(text.encode(), "box.Dockerfile")
    first, *excerpt = str(raised.value).split("\n")
    assert first.startswith(f"dockerfile parse error on line {line}: ")
    assert message in first
    assert excerpt[0] == f"box.Dockerfile:{line}"
    assert f"{line:4d} | >>> {text.splitlines()[line - 1]}" in excerpt


def test_the_lines_around_a_fault_are_shown_and_the_faulty_ones_marked() -> None:
    text = "FROM a\nRUN 1\nRUN 2\nFOO \\\n  bar\nRUN 3\nRUN 4\nRUN 5\n"
    with pytest.raises(InvalidArgument) as raised:
        parse_dockerfile(text.encode())
    assert str(raised.value).split("\n")[1:] == [
        "Dockerfile:4",
        "--------------------",
        "   2 |     RUN 1",
        "   3 |     RUN 2",
        "   4 | >>> FOO \\",
        "   5 | >>>   bar",
        "   6 |     RUN 3",
        "   7 |     RUN 4",
        "--------------------",
    ]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"# only a comment\n"])
def test_a_file_without_instructions_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument, match="file with no instructions"):
        parse_dockerfile(text)


def test_arguments_alone_make_no_image() -> None:
    with pytest.raises(InvalidArgument, match="dockerfile contains no stages to build"):
        parse_dockerfile(b"ARG a=b")


def test_triggers_are_instructions_with_their_documents() -> None:
    onbuild = parse_dockerfile(b"FROM a\nONBUILD COPY <<X /x\nhello\nX\nONBUILD RUN y").stages[0]
    triggers = [one.trigger for one in onbuild.instructions if isinstance(one, model.OnBuild)]
    found = parse_triggers(triggers)
    assert isinstance(found[0], model.Copy)
    assert found[0].heredocs[0].content == "hello\n"
    assert isinstance(found[1], model.Run)


def test_triggers_of_hostile_images_are_checked_again() -> None:
    with pytest.raises(InvalidArgument, match="FROM isn't allowed as an ONBUILD trigger"):
        parse_triggers(["RUN x\nFROM y"])


LINES = st.one_of(
    st.builds(
        "{} {}".format,
        st.sampled_from([*INSTRUCTIONS, "run", "Foo", "#"]),
        st.text(alphabet="ab=$\\{}'\"[]-<>,.:/ 1\t", max_size=30),
    ),
    st.text(max_size=20),
)


@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n", "\\\n"]))
def test_no_file_raises_anything_but_invalid_argument(lines: list[str], end: str) -> None:
    try:
        found = parse_dockerfile("".join(line + end for line in lines).encode())
    except InvalidArgument:
        return
    assert found.stages


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_invalid_argument(content: bytes) -> None:
    try:
        found = parse_dockerfile(b"FROM a\n" + content)
    except InvalidArgument:
        return
    assert found.stages
