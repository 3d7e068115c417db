"""What the command line prints without a daemon: help texts and refusals, word for word.

After a wanted change: `python -m tests.cli.golden`, and look at the difference.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.golden import ERRORS, FOLDER, helps, transcript

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", sorted(helps()))
def test_help_is_what_it_was(name: str) -> None:
    assert transcript(helps()[name]) == (FOLDER / f"{name}.golden").read_text()


def test_refusals_are_what_they_were() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda line: transcript(line.split(" ")), ERRORS))
    assert "\n".join(found) == (FOLDER / "errors.golden").read_text()


def test_there_is_no_golden_file_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.golden")} == {*helps(), "errors"}
