"""The reference of the command line is fresh: it says what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.cli.arguments.flags import flags_of
from sampan.cli.command_tree import COMMANDS, GROUPS, OTHER_NAMES, load
from sampan.cli.reference import commands, pages

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs/reference/cli"


def test_the_pages_are_what_the_generator_writes() -> None:
    written = {
        str(path.relative_to(FOLDER)): path.read_text()
        for path in [*FOLDER.glob("*.md"), *FOLDER.glob("man/*.1")]
    }
    assert written == pages(), "python -m sampan.cli.reference docs/reference/cli"


@pytest.mark.parametrize("path", sorted(commands()))
def test_every_command_declares_what_the_dispatcher_reads(path: str) -> None:
    module = commands()[path]
    least, most = module.OPERANDS
    assert module.__doc__
    assert module.__doc__.partition("\n")[0].endswith(".")
    assert most is None or least <= most
    assert callable(module.run)
    assert all(known.help or known.hidden for known in flags_of(module.Options).values()), (
        "a flag without a help text"
    )
    shorts = [known.short for known in flags_of(module.Options).values() if known.short]
    assert len(shorts) == len(set(shorts))


def test_groups_offer_the_commands_of_the_first_level() -> None:
    for group, (_, members) in GROUPS.items():
        for name, module in members.items():
            assert load(module).__doc__, f"{group} {name}"
    assert {"run", "ps", "inspect", "import"} <= COMMANDS.keys()
    for group, names in OTHER_NAMES.items():
        assert set(names.values()) <= GROUPS[group][1].keys()
