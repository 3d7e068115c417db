"""The program around the commands."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.ocirun import main
from sampan.ocirun.flags import Flag


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_a_module_with_options_and_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"sampan.ocirun.{main.COMMANDS[name][0]}")
    assert all(isinstance(each, Flag) for each in module.FLAGS)
    assert main.main([name, "--help"]) == 0
    assert f"Usage: sampan-runtime {name} [options]" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == main.main(["help"]) == main.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"   {name} " in out for name in main.COMMANDS)


def test_the_version_is_told_as_podman_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("sampan-runtime version ")
    assert second == f"spec: {main.OCI_VERSION}"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nix"], 1, "No help topic for 'nix'"),
        (["--nix"], 1, "flag provided but not defined: --nix"),
        (["state"], 1, "requires exactly 1 argument"),
        (["state", "a", "b"], 1, "requires exactly 1 argument"),
        (["--root", "/nowhere/at/all", "state", "a"], 1, "container a does not exist"),
        (["--root", "/nowhere/at/all", "exec", "a", "b"], 255, "container a does not exist"),
        (["--root", "/nowhere/at/all", "kill", "a", "NIX"], 1, "unknown signal 'NIX'"),
        (["--log-format", "xml", "list"], 1, 'unknown log-format "xml"'),
        (["--root", "/nowhere/at/all", "list", "-f", "xml"], 1, "invalid format option"),
    ],
)
def test_an_error_is_one_sentence_and_a_status(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(arguments) == status
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err.replace('\\"', '"')


def test_the_log_is_appended_to_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    for name in ("a", "b"):
        main.main(["--root", str(tmp_path), "--log", str(log), "--log-format=json", "state", name])
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["msg"] for entry in entries] == [
        "container a does not exist",
        "container b does not exist",
    ]
    assert capsys.readouterr().err == "container a does not exist\ncontainer b does not exist\n"


def test_deleting_by_force_what_does_not_exist_is_no_error(tmp_path: Path) -> None:
    assert main.main(["--root", str(tmp_path), "delete", "--force", "a"]) == 0
    assert main.main(["--root", str(tmp_path), "delete", "a"]) == 1


def test_the_program_itself_loads_next_to_nothing() -> None:
    script = (
        "import sys, sampan.ocirun.main, sampan.ocirun.state\n"
        "print(*[m for m in ('argparse', 'asyncio', 'json', 'subprocess', 'logging', 'pathlib',"
        " 'pyseccomp', 'hashlib', 'h11', 'sampan.runtime.starting.launch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
