"""docs/explanation/security.md: every test that it names is there, and tries what the row says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/explanation/security.md"
ROWS = [line for line in PAGE.read_text("utf-8").splitlines() if "::test_" in line]

#: What is known to have let containers out of engines, runtimes and builders.
KNOWN = """
    2014-6407 2014-9356 2014-9357 2016-3697 2016-9962 2018-15664 2019-14271 2019-16884 2019-19921
    2019-5736 2020-15257 2021-21284 2021-21285 2021-30465 2021-32760 2021-41089 2021-41091
    2021-41190 2022-0492 2022-23648 2022-24769 2022-29162 2022-36109 2023-25809 2023-27561
    2023-28642 2024-21626 2024-23651 2024-23652 2024-25621 2024-29018 2024-32473 2024-40635
    2024-41110 2024-45310 2024-9676 2025-31133 2025-52565 2025-52881 2025-54388 2025-54410
    2025-64329 2026-17106 2026-30892 2026-31431 2026-34040 2026-41567 2026-41568 2026-41579
    2026-42306 2026-46680 2026-47262 2026-47766 2026-50195 2026-53488 2026-53489 2026-53492
    2019-13139 2022-39253 2024-1753 2024-23650 2024-23653 2024-24557 2024-9407 2024-9675 2025-4953
    2026-33747 2026-33748
"""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_the_tests_of_a_row_exist(row: str) -> None:
    named = re.findall(r"`([\w/.]+)::(test_\w+)`", row)
    assert named
    for path, name in named:
        assert f"def {name}(" in (TESTS / path).read_text("utf-8"), f"{path}::{name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_a_test_with_a_cve_in_its_name_stands_in_that_row(row: str) -> None:
    cves = {found.replace("-", "_") for found in re.findall(r"CVE-(\d{4}-\d+)", row)}
    for found in re.findall(r"::test_cve_(\d{4}_\d+)", row):
        related = {"2024_21626", "2024_9676"}  # the same test guards a second row
        assert found in cves | related


def test_no_known_way_out_is_missing() -> None:
    text = PAGE.read_text("utf-8")
    assert [cve for cve in KNOWN.split() if f"CVE-{cve}" not in text] == []
