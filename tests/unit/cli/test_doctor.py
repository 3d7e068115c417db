"""`sampan doctor` becomes the daemon program's own examination."""

from __future__ import annotations

import os

import pytest

from sampan.cli.arguments.flags import parse
from sampan.cli.commands import doctor
from sampan.cli.invocation import Exit, Invocation


class Executed(Exception):
    """What execv was given; it does not return."""


@pytest.fixture(autouse=True)
def executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def execv(program: str, arguments: list[str]) -> None:
        raise Executed(program, arguments)

    monkeypatch.setattr(os, "execv", execv)


def test_the_daemon_s_program_is_executed() -> None:
    with pytest.raises(Executed) as raised:
        doctor.run(Invocation(), parse(doctor.Options, []).options, [])
    program, arguments = raised.value.args
    assert os.path.basename(program) == "sampand"
    assert arguments == [program, "--doctor"]


def test_programs_may_ask_for_json() -> None:
    with pytest.raises(Executed) as raised:
        doctor.run(Invocation(), parse(doctor.Options, ["--format=json"]).options, [])
    assert raised.value.args[1][1:] == ["--doctor", "--format=json"]
    with pytest.raises(Exit, match="invalid format"):
        doctor.run(Invocation(), parse(doctor.Options, ["--format=xml"]).options, [])
